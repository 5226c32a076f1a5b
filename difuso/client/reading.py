"""Reading of bytes that a server sent, which may hold anything: JSON, archives, arrays and PNGs, within bounds.

Its functions raise whatever the readers of the formats raise; `understood` makes one error of all.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from .errors import DifusoError

MAX_IMAGES = 64  # of a job
MAX_PIXELS = MAX_IMAGES * 1024 * 1024  # of all images of a job, whose sides have at most 1024
MAX_MEMBERS = 128  # files in an archive: the images and the manifest, or the arrays
DIRECTORY_ENTRY = b"PK\1\2"

Array = np.ndarray[Any, Any]


@contextmanager
def understood(said: str) -> Iterator[None]:
    """Turns every error of the block, which reads what `said` is, into a DifusoError."""
    try:
        yield
    except DifusoError:
        raise
    except Exception as error:  # zipfile, NumPy and Pillow raise many kinds
        raise DifusoError(f"{said} is not from difuso: check the address") from error


def check(holds: bool) -> None:
    """Raises ValueError unless a condition holds."""
    if not holds:
        raise ValueError("the server says something that difuso does not say")


def table(content: bytes | str) -> dict[str, Any]:
    """Returns an object of JSON."""
    found = json.loads(content)
    check(isinstance(found, dict))
    return dict(found)


class Archive:
    """A zip or .npz file, which holds its members as they are: together they have no more bytes than the file."""

    def __init__(self, content: bytes) -> None:
        check(content.count(DIRECTORY_ENTRY) <= MAX_MEMBERS)  # before zipfile reads the directory
        self._files = zipfile.ZipFile(io.BytesIO(content))
        self._left = len(content)
        self.names = self._files.namelist()

    def read(self, name: str) -> bytes:
        """Returns a member."""
        member = self._files.getinfo(name)
        self._left -= member.file_size
        # Two members may be the same bytes of the file, and a compressed one may unpack to any number.
        check(member.compress_type == zipfile.ZIP_STORED and self._left >= 0)
        return self._files.read(member)


def arrays_of(npz: bytes) -> dict[str, Array]:
    """Returns the arrays of an .npz file, by name. Names are of small letters, digits and _."""
    archive = Archive(npz)
    names = [name.removesuffix(".npy") for name in archive.names]
    check(all(name.isascii() and name.isidentifier() and name.islower() for name in names))
    return {name: _array(archive.read(f"{name}.npy")) for name in names}


def _array(content: bytes) -> Array:
    """Returns the numbers of an .npy file. NumPy alone would allocate whatever its header states."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    check(dtype.kind in "buif" and all(type(side) is int and side >= 0 for side in shape))
    check(len(content) - file.tell() == math.prod(shape) * dtype.itemsize)
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


def open_pngs(pngs: Sequence[bytes]) -> list[Image.Image]:
    """Returns images of PNG files, whose pixels are not decoded yet. Together they have at most MAX_PIXELS."""
    images = [Image.open(io.BytesIO(png), formats=["PNG"]) for png in pngs]
    check(sum(image.width * image.height for image in images) <= MAX_PIXELS)
    return list(images)
