"""Picture files as arrays of one size: upright, opaque, square, eight bits a channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from .errors import RecipeError

ImageArray = np.ndarray[Any, np.dtype[np.uint8]]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def list_images(folder: Path) -> list[Path]:
    """Every picture below a folder, in the order of their names.

    Raises:
        RecipeError: if the folder does not exist or holds no images.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise RecipeError(f"there are no pictures below {folder}: {', '.join(sorted(SUFFIXES))}")
    return paths


def decode(file: Path | BinaryIO, size: int, channels: int) -> ImageArray:
    """One picture, uint8 of shape (size, size, channels).

    Turned as its EXIF says; transparency becomes white; 16 bits are scaled to 8; cropped as `centre_crop` does.

    Raises:
        Exception: of many kinds, if it is no picture or a damaged one.
    """
    with Image.open(file) as opened:
        image = _eight_bits(ImageOps.exif_transpose(opened))
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        cropped = centre_crop(image.convert("L" if channels == 1 else "RGB"), size)
        return np.asarray(cropped).reshape(size, size, channels)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle square of a picture, resized as guided-diffusion does it.

    Halved by box filters while it is at least twice too large, then bicubic: figures of models that were trained on
    images made so compare with each other.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey pictures of 16 bits, which Pillow would clip to 255 instead of scaling."""
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("neither 8 nor 16 bits a channel")
    return Image.fromarray((pixels // 257).astype(np.uint8))
