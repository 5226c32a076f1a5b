"""Image files as arrays of one shape: upright, opaque, cropped in the middle."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from difuso.model.shape import Shape

from ..errors import RecipeError

ImageArray = NDArray[np.unsignedinteger[Any]]  # uint8; uint16 where images have 16 bits
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".npy"}
NPY_MAGIC = b"\x93NUMPY"
DEEP, WHITE = "I;16", 65535  # Pillow's mode of 16-bit grey


def list_images(folder: Path) -> list[Path]:
    """Lists every image file below a folder by name; raises RecipeError if it does not exist or holds none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise RecipeError(f"there are no images below {folder}: no file ends in {', '.join(sorted(SUFFIXES))}")
    return paths


def decode(file: Path | BinaryIO, shape: Shape, *, bits: int = 8) -> ImageArray:
    """Decodes one image, of shape (H, W, C); uint8, or uint16 with 16 bits.

    It is opened by `opened` and cropped by `centre_crop`. An image of other than 1 or 3 channels must
    be an array, .npy of shape (H, W, C). Levels are converted to 8 bits, or to 16 of images that are not RGB.

    Raises Exception of many kinds, if the file is damaged or not an image.
    """
    if _is_array(file):
        planes = _planes(np.load(file, allow_pickle=False), shape, bits)
    elif shape.planes > 1:
        raise ValueError(f"an image of {shape.channels} channels must be an array, saved as .npy")
    else:
        planes = [opened(file, channels=shape.channels, bits=bits)]
    cropped = [np.asarray(centre_crop(plane, shape)) for plane in planes]
    return np.stack(cropped, axis=-1) if len(cropped) > 1 else cropped[0].reshape(shape.hwc)


def size_of(path: Path) -> tuple[int, int]:
    """Returns the stored (height, width) of an image file; raises as `decode` does."""
    if _is_array(path):
        height, width, *_ = np.load(path, mmap_mode="r", allow_pickle=False).shape
        return height, width
    with Image.open(path) as image:
        return image.height, image.width


def centre_crop(image: Image.Image, shape: Shape) -> Image.Image:
    """Crops the middle of an image with a shape's height and width, resized as guided-diffusion does it for squares.

    The image is halved by box filters while it is at least twice too large; the rest is bicubic. Figures of models that
    were trained on images made in this way can be compared.
    """
    if image.mode == DEEP:  # in floats, because Pillow does not resample 16 bits by every filter
        return Image.fromarray(np.asarray(centre_crop(image.convert("F"), shape)).round().clip(0, WHITE).astype("u2"))
    height, width = shape.height, shape.width
    while image.height >= 2 * height and image.width >= 2 * width:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return _covering(image, shape, Image.Resampling.BICUBIC)


def decode_map(file: Path | BinaryIO, shape: Shape, *, count: int) -> ImageArray:
    """Decodes a map of indices below `count`, uint8 of shape (H, W, 1), cropped as an image but to nearest pixels.

    Raises Exception of many kinds, if the file is damaged, is no such image, or has other indices.
    """
    with Image.open(file) as stored:
        image = ImageOps.exif_transpose(stored)
        if image.mode not in ("L", "P"):
            raise ValueError(f"a map must be a grey image of 8 bits or have a palette, and this is {image.mode}")
        indices = np.asarray(_covering(image, shape, Image.Resampling.NEAREST))
    if indices.max() >= count:
        raise ValueError(f"it has index {indices.max()}, and the map has {count} values, from index 0 on")
    return indices[:, :, None]


def _covering(image: Image.Image, shape: Shape, resample: Image.Resampling) -> Image.Image:
    """Resizes an image until it just covers a shape, and crops the middle."""
    height, width = shape.height, shape.width
    scale = max(width / image.width, height / image.height)
    image = image.resize((round(image.width * scale), round(image.height * scale)), resample)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def in_bits(images: ImageArray, bits: int) -> ImageArray:
    """Scales the levels of uint8 or uint16 to 8 or 16 bits."""
    if bits == 8:
        return (images // 257).astype(np.uint8) if images.dtype == np.uint16 else images
    return images if images.dtype == np.uint16 else images.astype(np.uint16) * 257


def opened(file: Path | BinaryIO, *, channels: int, bits: int = 8) -> Image.Image:
    """Opens a grey or RGB image of 8 bits, or grey of 16, turned as its EXIF says; transparency becomes white.

    Raises Exception of many kinds, if the file is damaged or not an image.
    """
    with Image.open(file) as stored:
        image = ImageOps.exif_transpose(stored)
        if image.mode.startswith(("I", "F")):
            image = Image.fromarray(in_bits(_deep(image), bits))
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if image.mode == DEEP:
            return image
        image = image.convert("L" if channels == 1 else "RGB")
        return image if bits == 8 else Image.fromarray(in_bits(np.asarray(image), bits))


def _deep(image: Image.Image) -> ImageArray:
    """Returns the levels of grey of 16 bits, which Pillow would clip to 255."""
    pixels = np.asarray(image)
    if image.mode == "F" or pixels.min() < 0 or pixels.max() > WHITE:
        raise ValueError("neither 8 nor 16 bits a channel")
    return pixels.astype(np.uint16)


def _is_array(file: Path | BinaryIO) -> bool:
    if isinstance(file, Path):
        return file.suffix.lower() == ".npy"
    begin = file.read(len(NPY_MAGIC))
    file.seek(0)
    return begin == NPY_MAGIC


def _planes(pixels: ImageArray, shape: Shape, bits: int) -> list[Image.Image]:
    """Returns the channels of an array, (H, W) or (H, W, C), as grey images."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.shape[2] != shape.channels:
        raise ValueError(f"an array must be uint8 or uint16 of shape (H, W, {shape.channels})")
    return [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(in_bits(pixels, bits), 2, 0)]
