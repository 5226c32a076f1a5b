"""Image files as arrays of one size: upright, opaque, square, eight bits a channel."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .errors import RecipeError

ImageArray = NDArray[np.uint8]
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


def list_images(folder: Path) -> list[Path]:
    """Lists every image file below a folder, in the order of their names.

    Raises:
        RecipeError: if the folder does not exist or holds no images.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise RecipeError(f"there are no images below {folder}: no file ends in {', '.join(sorted(SUFFIXES))}")
    return paths


def decode(file: Path | BinaryIO, size: int, channels: int) -> ImageArray:
    """Decodes one image, uint8 of shape (size, size, channels).

    It is turned as its EXIF says and cropped as `centre_crop` does. Transparency becomes white. 16 bits become 8.

    Raises:
        Exception: of many kinds, if the file is damaged or not an image.
    """
    with Image.open(file) as opened:
        image = _eight_bits(ImageOps.exif_transpose(opened))
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        cropped = centre_crop(image.convert("L" if channels == 1 else "RGB"), size)
        return np.asarray(cropped).reshape(size, size, channels)


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Crops the middle square of an image, resized as guided-diffusion does it.

    The image is halved by box filters while it is at least twice too large; the rest is bicubic. Figures of models that
    were trained on images made in this way can be compared.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales grey images of 16 bits to 8, where Pillow would clip them to 255."""
    if not image.mode.startswith(("I", "F")):
        return image
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("neither 8 nor 16 bits a channel")
    return Image.fromarray((pixels // 257).astype(np.uint8))
