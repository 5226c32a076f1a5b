"""Images that are stored as arrays: .npz files of ImageNet-64 and of ADM's samples, IDX files of (Fashion-)MNIST."""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from difuso.model.shape import Shape

from ..errors import RecipeError
from ..recipe import Data
from .images import ImageArray, in_bits
from .source_images import Source, SourceImage

LAYOUTS = {"data": "labels", "arr_0": "arr_1"}  # images and labels of ImageNet-64's files, and of ADM's
IDX_NAMES = {"train": "train", "test": "t10k"}
IDX_IMAGES, IDX_LABELS = 0x803, 0x801  # bytes, in three dimensions and in one


def open_npz(data: Data, shape: Shape) -> Source:
    """Opens one .npz file, or all of a folder; their images must have the wanted size already.

    They are `data`, (N, C*H*W), or `arr_0`, (N, H, W, C). Labels, in `labels` or `arr_1`, begin at 0 or at 1.
    """
    path = Path(data.path)
    paths = sorted(path.glob("*.npz"), key=lambda file: (len(file.name), file.name)) if path.is_dir() else [path]
    if not paths:
        raise RecipeError(f"there are no .npz files in {path}")

    def items() -> Iterator[SourceImage]:
        for path in paths:
            images, labels = _read_npz(path, shape.hwc, data.bits)
            for i, image in enumerate(images):
                yield SourceImage(f"{path.name}[{i}]", image, None if labels is None else int(labels[i]))

    return Source(items(), may_begin_at_1=True)


def open_idx(data: Data, shape: Shape) -> Source:
    """Opens the four files of MNIST or Fashion-MNIST in a folder; images are padded with black to the wanted size."""
    if data.split not in IDX_NAMES:
        raise RecipeError(f"data.split must be {' or '.join(IDX_NAMES)}, not {data.split}")
    images = _read_idx(Path(data.path), f"{IDX_NAMES[data.split]}-images-idx3-ubyte", IDX_IMAGES)
    labels = _read_idx(Path(data.path), f"{IDX_NAMES[data.split]}-labels-idx1-ubyte", IDX_LABELS)
    if len(images) != len(labels):
        raise RecipeError(
            f"{data.path} holds {len(images)} images and {len(labels)} labels: they do not belong together"
        )
    height, width = images.shape[1:]
    if height > shape.height or width > shape.width:
        raise RecipeError(
            f"{data.path} holds images of {height}x{width}: image_size must be at least that, got {shape.image_size}"
        )
    top, left = (shape.height - height) // 2, (shape.width - width) // 2
    margins = ((top, shape.height - height - top), (left, shape.width - width - left))

    def items() -> Iterator[SourceImage]:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            padded = np.pad(image, margins)[:, :, None]
            yield SourceImage(
                f"{data.split}[{i}]", in_bits(np.repeat(padded, shape.channels, axis=2), data.bits), int(label)
            )

    return Source(items(), len(images))


def _read_npz(path: Path, shape: tuple[int, int, int], bits: int) -> tuple[ImageArray, Any]:
    """Reads the images of a file, shape (N, H, W, C), and their labels, shape (N,), or None."""
    try:
        with path.open("rb") as file, np.load(file) as archive:
            name = next((name for name in LAYOUTS if name in archive), None)
            if name is None:
                raise RecipeError(f"{path} holds {', '.join(archive)}: its images must be in {' or '.join(LAYOUTS)}")
            images, labels = archive[name], next((archive[key] for key in LAYOUTS.values() if key in archive), None)
    except RecipeError:
        raise
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise RecipeError(f"{path} cannot be read as .npz: {error}") from error
    if labels is not None and len(labels) != len(images):
        raise RecipeError(f"{path} holds {len(images)} images and {len(labels)} labels")
    if images.dtype != np.uint8 and (images.dtype != np.uint16 or bits == 8):
        raise RecipeError(f"{path}: images must be uint8, or uint16 with data.bits = 16, got {images.dtype}")
    images = in_bits(images, bits)
    height, width, channels = shape
    if name == "data" and images.ndim == 2 and images.shape[1] == channels * height * width:
        images = images.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    if images.shape[1:] != shape:
        raise RecipeError(f"{path} holds images of shape {images.shape[1:]}, the recipe wants {shape}")
    return images, labels


def _read_idx(folder: Path, name: str, magic: int) -> ImageArray:
    """Reads one IDX file, compressed or not."""
    compressed, plain = folder / f"{name}.gz", folder / name
    if not compressed.is_file() and not plain.is_file():
        raise RecipeError(f"{folder} lacks {name} or {name}.gz")
    try:
        content = gzip.decompress(compressed.read_bytes()) if compressed.is_file() else plain.read_bytes()
        dimensions = magic & 0xFF
        head = np.frombuffer(content[: 4 * (1 + dimensions)], ">u4")
        if head[0] != magic:
            raise ValueError(f"it begins with {head[0]:#x} instead of {magic:#x}")
        return np.frombuffer(content[4 * (1 + dimensions) :], np.uint8).reshape(tuple(int(n) for n in head[1:]))
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise RecipeError(f"{folder / name} cannot be read as IDX: {error}") from error
