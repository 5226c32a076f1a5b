"""Models at an address, which is any folder or bucket that fsspec knows: `difuso push` puts them there.

NAME.json        what the model NAME is now, or NAME@TAG: its manifest, which comes last
NAME.toml        the shares of its versions, see `traffic`
files/<sha256>   the files of all models

So a model is there whole or not at all, and a file never changes under its name.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from difuso.model.errors import CheckpointError
from difuso.model.folders.files import MAX_HEADER, QUALITY, SUMS, VERSION, is_file, read_shapes, sums_of, version_of
from difuso.model.folders.labels import LABELS
from difuso.model.formats.diffusers.config import INDEX
from difuso.model.formats.folders import deciding_files, read_config, read_version

from .model_folders import FILES as DOCUMENTS
from .model_folders import find_document
from .store.blobs import Blobs
from .values import Reported

FILES, MANIFEST = "files", ".json"
MAX_MANIFEST = 1 << 20  # bytes
WEIGHTS = ".safetensors"

Digest = Annotated[str, Field(pattern=VERSION)]
Size = Annotated[int, Field(ge=0)]
# As safe names: no hidden file, and nothing outside the folder. No file of a model lies deeper.
RelativePath = Annotated[str, Field(pattern=r"^(\w[\w.-]*/)?\w[\w.-]*$", max_length=200)]


class PushedFile(Reported):
    """A file of a model; of weights also the head, up to the first tensor, which is all that a front end reads."""

    size: Size
    sha256: Digest
    head: Annotated[int, Field(ge=8, le=8 + MAX_HEADER)] | None = None  # its bytes
    head_sha256: Digest | None = None


class PushedModel(Reported):
    """The manifest of a model; its version is that of the folder, and the time is in seconds since the epoch."""

    format: Literal[1] = 1
    version: Digest
    pushed_at: float
    files: Mapping[RelativePath, PushedFile]


def push(folder: Path, blobs: Blobs, name: str) -> PushedModel:
    """Puts the files that difuso reads of a model's folder at an address, and then its manifest.

    What lies there is not sent again, so it stays right whatever happens to the folder meanwhile.

    Raises CheckpointError if the folder is no model or is damaged, and what the file system raises.
    """
    config = read_config(folder)
    deciding = deciding_files(folder, config)
    for file in deciding:
        if file.endswith(WEIGHTS):
            read_shapes(folder, file)
    documents = [file for name, (file, _) in DOCUMENTS.items() if find_document(folder, name)]
    others = [file for file in (INDEX, LABELS, QUALITY) if is_file(folder / file)]
    version = read_version(folder, config)
    with ExitStack() as stack:  # each file is opened once, because a training may replace the folder
        opened = {file: stack.enter_context((folder / file).open("rb")) for file in (*deciding, *documents, *others)}
        described = {file: _described(each) for file, each in opened.items()}
        digests = {file: each.sha256 for file, each in described.items()}
        if version != version_of({file: digests[file] for file in deciding}):
            raise CheckpointError(f"{folder} does not match its {SUMS}: it was damaged or edited")
        for file, each in opened.items():
            place = blobs.root / FILES / digests[file]
            if blobs.size(place) != described[file].size:
                each.seek(0)
                blobs.upload(place, Path(f"/dev/fd/{each.fileno()}"))
    sums = sums_of(digests).encode()
    summed = PushedFile(size=len(sums), sha256=hashlib.sha256(sums).hexdigest())
    blobs.write(blobs.root / FILES / summed.sha256, sums)
    files = {SUMS: summed, **described}
    model = PushedModel(version=version, pushed_at=time.time(), files=files)
    blobs.write(blobs.root / f"{name}{MANIFEST}", model.model_dump_json(indent=1, exclude_none=True).encode())
    return model


def _described(file: BufferedReader) -> PushedFile:
    digest, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
    if not file.name.endswith(WEIGHTS):
        return PushedFile(size=size, sha256=digest)
    file.seek(0)
    length = file.read(8)
    head = length + file.read(int.from_bytes(length, "little"))
    return PushedFile(size=size, sha256=digest, head=len(head), head_sha256=hashlib.sha256(head).hexdigest())
