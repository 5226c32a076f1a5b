"""The images of an unfinished .npz file, in a folder next to it: one file for each chunk, and the request."""

import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.images.npz import IMAGES, LABELS, NpzWriter, pixels_of
from jobs.store.local_files import temporary_file
from model.shape import Shape as ImageShape

from ..errors import UserError

REQUEST = "request.json"

Shape = tuple[int, ...]
LabelArray = npt.NDArray[np.int64]


class Parts:
    """The parts of a file, in a folder that need not exist. Each is there as a whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def request(self) -> dict[str, Any]:
        """Returns the request of the parts; empty if there is none. Raises UserError if it cannot be read."""
        path = self.folder / REQUEST
        try:
            request = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            request = None
        if not isinstance(request, dict):
            raise UserError(f"{path} cannot be read: delete {self.folder}, or name another file")
        return {"precision": "float32", **request}  # earlier versions name no number format

    def begin(self, request: Mapping[str, Any]) -> None:
        """Makes the folder, or continues with it; raises UserError if it holds parts of another request."""
        known = self.request()
        if known == request:
            return
        if self.folder.exists() and any(path.name != REQUEST and path.name[0] != "." for path in self.folder.iterdir()):
            if not known:
                raise UserError(f"{self.folder} holds other files: delete it, or name another file")
            raise UserError(
                f"{self.folder} holds images of another request, with {', '.join(_differences(known, request))}: "
                "repeat that one, delete the folder, or name another file"
            )
        self._write(REQUEST, json.dumps(request, indent=2).encode() + b"\n")

    def missing(self, chunks: Iterable[int]) -> list[int]:
        """Returns the chunks that are not there."""
        return [chunk for chunk in chunks if not self._path(chunk).exists()]

    def keep(self, chunk: int, pngs: Sequence[bytes], shape: Shape) -> None:
        """Writes the images of a chunk, each of this shape (H, W, C)."""
        height, width, channels = shape
        planes = ImageShape(channels, height, width).planes
        images = np.stack([pixels_of(png, planes=planes).reshape(shape) for png in pngs])
        file = io.BytesIO()
        np.save(file, images)
        self._write(self._path(chunk).name, file.getvalue())

    def write_npz(self, out: Path, chunks: range, *, shape: Shape, labels: LabelArray | None) -> None:
        """Writes the .npz file of all chunks, and deletes the parts.

        The images have the shape (N, H, W, C), and their labels (N,); None if they have none.
        """
        whole = self.folder / out.name
        with NpzWriter(whole) as file:
            file.add(IMAGES, shape, np.dtype(np.uint8), (np.load(self._path(chunk)) for chunk in chunks))
            if labels is not None:
                file.add(LABELS, labels.shape, labels.dtype, [labels])
        with whole.open("rb") as written:
            os.fsync(written.fileno())  # before its parts are deleted
        whole.replace(out)
        self.delete()

    def delete(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.folder)

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:06}.npy"

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        with temporary_file(path, data, top=self.folder) as temporary:
            temporary.replace(path)


def _differences(known: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[str]:
    for name in {**request, **known}:
        there, asked = (str(each.get(name)) for each in (known, request))
        if there != asked:
            yield f"{name} {there} instead of {asked}"
