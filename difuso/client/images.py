"""The images and sequences of a request, in the forms that a program has them."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ImageLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]
NoiseLike = str | os.PathLike[str] | bytes | npt.ArrayLike

MAX_CHANNELS = 64  # of a model's images
PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


def file_of(image: ImageLike) -> bytes:
    """Returns the image as a file that the server reads.

    Args:
        image: the path or the content of a PNG, JPEG or .npy file, which is sent unchanged; or a Pillow image, or
            an array of uint8 or bool, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), which are sent as a PNG, with alpha as
            the fourth channel; or an array of other channels or of uint16, which is sent as .npy.

    Raises:
        OSError: if there is no such file.
        TypeError: if it is something else, or an array or a Pillow image (modes I and F) of other numbers.

    Examples:
        >>> file_of(np.zeros((8, 8, 3), np.uint8))[1:4]
        b'PNG'
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        if image.mode in ("I", "F"):
            raise TypeError(f"a Pillow image must have 8 or 16 bits a channel; those of mode {image.mode} have 32")
        if image.mode.startswith("I;16") and image.mode not in PNG_MODES:  # which `convert` would cut off at 255
            return _from_array(np.asarray(image).astype(np.uint16))
        return _png(image if image.mode in PNG_MODES else image.convert("RGB"))
    raise TypeError(f"an image must be a path, bytes, a Pillow image or an array, not {type(image).__name__}")


def noise_file(noise: NoiseLike) -> bytes:
    """Returns noise as a file that the server reads: a path or the bytes of a .npy file, or an array of floats.

    Raises OSError if there is no such file.

    Examples:
        >>> noise_file(np.zeros((8, 8, 3)))[1:6]
        b'NUMPY'
    """
    if isinstance(noise, bytes | str | os.PathLike):
        return file_of(noise)
    return _npy(np.asarray(noise, np.float32))


def condition_file(value: Any) -> bytes:
    """Returns the file of a condition: that of an image, or an array of floats, which is a sequence, as .npy."""
    is_sequence = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return _npy(value) if is_sequence else file_of(value)


def is_file(value: object) -> bool:
    """Returns whether the value of a condition is a file: a path, bytes, a Pillow image or an array of two or more
    dimensions. A text is the name of a choice.

    Examples:
        >>> is_file(Path("layout.png")), is_file("round"), is_file(np.zeros(16))
        (True, False, False)
    """
    return isinstance(value, bytes | os.PathLike | Image.Image) or (isinstance(value, np.ndarray) and value.ndim > 1)


def _from_array(pixels: npt.NDArray[Any]) -> bytes:
    if pixels.dtype not in (np.uint8, np.uint16, np.bool_):
        raise TypeError(f"an array of pixels must have the type uint8, uint16 or bool, not {pixels.dtype}")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and not 1 <= pixels.shape[2] <= MAX_CHANNELS):
        raise TypeError(f"an array of pixels must be (H, W) or (H, W, C), C 1 to {MAX_CHANNELS}, not {pixels.shape}")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype == np.uint8 and (pixels.ndim == 2 or pixels.shape[2] in (3, 4)):
        return _png(Image.fromarray(np.ascontiguousarray(pixels)))
    return _npy(pixels)


def _npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
