"""Writing .npz files array by array: equal arrays give equal files, and no array need fit into memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip archive can tell


class NpzWriter:
    """A new .npz file, uncompressed as `numpy.savez` writes it; a context manager that closes it."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def add(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[np.ndarray[Any, Any]]
    ) -> None:
        """Adds an array.

        Args:
            shape: the shape of the whole array.
            pieces: its parts along the first axis, in their order.

        Raises:
            ValueError: if the pieces do not make up an array of this shape and type.
        """
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        rows = 0
        with self._archive.open(zipfile.ZipInfo(f"{name}.npy", EPOCH), "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces:
                if piece.shape[1:] != shape[1:] or piece.dtype != dtype:
                    raise ValueError(f"{name} is {dtype} of shape {shape}, and a piece is {piece.dtype}, {piece.shape}")
                file.write(piece.tobytes())
                rows += len(piece)
        if rows != shape[0]:
            raise ValueError(f"{name} is of shape {shape}, and its pieces have {rows} rows")
