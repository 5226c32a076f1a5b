"""The images of a request, in the forms that a program has them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ImageLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]

PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def file_of(image: ImageLike) -> bytes:
    """Returns the image as a file that the server reads.

    Args:
        image: the path or the content of a PNG or JPEG file, which is sent as it is; or a Pillow image, or an array of
            uint8 or bool, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), which are sent as a PNG.

    Raises:
        OSError: if there is no such file.
        TypeError: if it is something else, or an array of other numbers.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, np.ndarray):
        return _png(_from_array(image))
    if isinstance(image, Image.Image):
        return _png(image if image.mode in PNG_MODES else image.convert("RGB"))
    raise TypeError(f"an image must be a path, bytes, a Pillow image or an array, not {type(image).__name__}")


def _from_array(pixels: npt.NDArray[Any]) -> Image.Image:
    if pixels.dtype not in (np.uint8, np.bool_):
        raise TypeError(f"an array of pixels must have the type uint8 (0 to 255) or bool, not {pixels.dtype}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise TypeError(f"an array of pixels must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {pixels.shape}")
    return Image.fromarray(np.ascontiguousarray(pixels) if pixels.dtype == np.uint8 else pixels.astype(np.uint8) * 255)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
