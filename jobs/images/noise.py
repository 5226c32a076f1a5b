"""Noise from which images begin: x_T in floats, as requests send it and as jobs keep it, a .npy file for each image."""

import numpy as np

from difuso.model.shape import Shape

from ..errors import ImageRefused
from ..params import MAX_IMAGES
from .fitting import Fitted, Sent, read_array
from .npz import encode_npy

# Noise of unit variance stays below it: NumPy's generator of doubles, whose tails are the longest, reaches
# 3.7 + sqrt(2 * 53 * ln 2) = 12.2. Noise in units of sigma, and pixels of 0..255, lie beyond it.
MAX_NOISE = 16.0


def fit_noise(noise: Sent, *, shape: Shape) -> Fitted:
    """Returns x_T of one image or of each, (H, W, C) or (N, H, W, C) of a model's shape, as a file of (N, H, W, C).

    Raises ImageRefused if it is not such an array, or if a number is not finite or too large for unit variance.
    """
    wanted = f"(H, W, C) or (N, H, W, C), where (H, W, C) is {shape.hwc}"
    if not isinstance(noise, np.ndarray):
        raise ImageRefused(f"The noise should be a .npy file of float32, of shape {wanted}")
    if noise.ndim not in (3, 4) or noise.shape[-3:] != shape.hwc:
        raise ImageRefused(f"The noise should have the shape {wanted}, not {str(noise.shape)[:40]}")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
        of_each = np.ascontiguousarray(noise, "<f4").reshape(-1, *shape.hwc)
    if not 1 <= len(of_each) <= MAX_IMAGES:
        raise ImageRefused(f"The noise should be of 1 to {MAX_IMAGES} images, not {len(of_each)}")
    if not np.isfinite(of_each).all():
        raise ImageRefused("The noise should be finite, without NaN")
    if (most := float(np.abs(of_each).max())) > MAX_NOISE:
        limits = f"lie in -{MAX_NOISE:g} to {MAX_NOISE:g}, where it reaches {most:.4g}"
        raise ImageRefused(
            f"The noise should have unit variance and {limits}: divide noise in units of sigma by sqrt(1 + sigma^2)"
        )
    return Fitted(encode_npy(of_each), shape.width, shape.height)


def noises_in(fitted: Fitted) -> tuple[Fitted, ...]:
    """Returns the files of (H, W, C) of the images in what `fit_noise` has made."""
    of_each = read_array(fitted.file)
    assert isinstance(of_each, np.ndarray)
    return tuple(Fitted(encode_npy(each), fitted.width, fitted.height) for each in of_each)
