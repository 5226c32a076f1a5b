"""Writing .npy and .npz files, in which equal arrays give equal bytes; and the arrays of a finished job."""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..params import SamplingParams

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can hold
IMAGES, LABELS = "arr_0", "arr_1"  # the names in ADM's files of samples

Array = np.ndarray[Any, Any]


class NpzWriter(zipfile.ZipFile):
    """A new .npz file, uncompressed as `numpy.savez` writes it.

    Arrays are written piece by piece, so that none need fit into memory.
    """

    def __init__(self, file: Path | IO[bytes]) -> None:
        super().__init__(file, "w", zipfile.ZIP_STORED)

    def add(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[Array]) -> None:
        """Adds an array in pieces along its first axis; raises ValueError if they do not have its shape and type."""
        with self.open(zipfile.ZipInfo(f"{name}.npy", EPOCH), "w", force_zip64=True) as file:
            write_npy(file, shape, dtype, pieces)


def write_npy(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[Array]) -> None:
    """Writes a .npy file in pieces along the first axis; raises ValueError if they do not have its shape and type."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    rows = 0
    for piece in pieces:
        if piece.shape[1:] != shape[1:] or piece.dtype != dtype:
            raise ValueError(f"the array is {dtype} of shape {shape}, and a piece is {piece.dtype}, {piece.shape}")
        file.write(piece.tobytes())
        rows += len(piece)
    if rows != shape[0]:
        raise ValueError(f"the array is of shape {shape}, and its pieces have {rows} rows")


def encode_npy(array: Array) -> bytes:
    """Returns an array as an .npy file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    write_npy(buffer, array.shape, array.dtype, [array])
    return buffer.getvalue()


def encode_npz(*files: Mapping[str, Array]) -> bytes:
    """Returns an .npz file with the arrays of several mappings, which must have different names."""
    buffer = io.BytesIO()
    with NpzWriter(buffer) as writer:
        for arrays in files:
            for name, array in arrays.items():
                writer.add(name, array.shape, array.dtype, [array])
    return buffer.getvalue()


def packed(files: Sequence[bytes]) -> bytes:
    """Returns an .npz file that holds files, as arrays of their bytes with their indices as names."""
    return encode_npz({str(index): np.frombuffer(file, np.uint8) for index, file in enumerate(files)})


def unpacked(npz: bytes, index: int) -> bytes:
    """Returns one of the files that `packed` has packed."""
    with np.load(io.BytesIO(npz)) as files:
        return bytes(files[str(index)])


def pixels_of(png: bytes, *, planes: int = 1) -> Array:
    """Returns the pixels of an image of so many planes, uint8 of shape (H, W, C); uint16 if it has 16 bits."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    if planes > 1:
        return np.stack(np.split(pixels, planes), axis=-1)
    return pixels.reshape(*pixels.shape[:2], -1)


def image_arrays(pngs: Sequence[bytes], params: SamplingParams, *, planes: int = 1) -> dict[str, Array]:
    """Returns the images of a job, each of so many planes, as `with_labels` does."""
    return with_labels(np.stack([pixels_of(png, planes=planes) for png in pngs]), params)


def with_labels(images: Array, params: SamplingParams) -> dict[str, Array]:
    """Returns pixels and classes as ADM's files of samples have them.

    `arr_0` are the pixels, uint8 or uint16 of shape (N, H, W, C), and `arr_1` the classes, int64 of shape (N,), if any.
    """
    labels = [params.label_of(index) for index in range(len(images))]
    return {IMAGES: images, **({} if None in labels else {LABELS: np.array(labels, "<i8")})}
