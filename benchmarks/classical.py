"""Ways without a network: denoisers that are tuned on other images for each noise level, and filters that enlarge."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any, Protocol

import numpy as np
from PIL import Image
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

from training.data.images import ImageArray

Images = Sequence[ImageArray]


class Denoiser(Protocol):
    """Removes the noise from an image, uint8 of shape (H, W, 3)."""

    def __call__(self, noisy: ImageArray) -> ImageArray: ...


def psnr(image: ImageArray, truth: ImageArray) -> float:
    """Returns the peak signal-to-noise ratio in dB of images in 0..255; infinite where they are equal."""
    error = np.square(image.astype(np.float64) - truth).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def resized(image: ImageArray, size: int, way: str) -> ImageArray:
    """Returns the image as a square of `size` pixels a side, by a filter of Pillow such as `lanczos`."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling[way.upper()]))


def tuned_denoisers(noisy: Images, clean: Images, sigma: float) -> dict[str, tuple[Denoiser, dict[str, Any]]]:
    """Returns each denoiser with the settings, of many, that do best on these images.

    They are non-local means (Buades et al. 2005), wavelet shrinkage (Chang et al. 2000), averaged over shifts (Coifman
    and Donoho 1995), and total variation (Chambolle 2004). BM3D, whose licence is
    for non-commercial use only, is left out.
    """
    grids: dict[str, tuple[Any, dict[str, Sequence[Any]]]] = {
        "non-local means": (
            _nl_means,
            {
                "h": (0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0),
                "patch_size": (3, 5),
                "patch_distance": (6, 12),
                "fast_mode": (True, False),
            },
        ),
        "wavelets": (
            _wavelets,
            {"told": (0.6, 0.8, 1.0, 1.25, 1.5), "wavelet": ("db1", "db2", "sym4"), "levels": (1, 2, 3)},
        ),
        "total variation": (_total_variation, {"weight": (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5)}),
    }
    found = {}
    for name, (denoiser, grid) in grids.items():
        settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        found[name] = _best(denoiser, settings, noisy, clean, sigma)
    return found


def _best(
    denoiser: Any, settings: Sequence[dict[str, Any]], noisy: Images, clean: Images, sigma: float
) -> tuple[Denoiser, dict[str, Any]]:
    def score(setting: dict[str, Any]) -> float:
        pairs = zip(noisy, clean, strict=True)
        return float(np.mean([psnr(denoiser(image, sigma=sigma, **setting), truth) for image, truth in pairs]))

    best = max(settings, key=score)
    return partial(denoiser, sigma=sigma, **best), best


def _nl_means(noisy: ImageArray, *, sigma: float, h: float, **settings: Any) -> ImageArray:
    return _to_uint8(denoise_nl_means(noisy / 255, h=h * sigma / 255, sigma=sigma / 255, channel_axis=-1, **settings))


def _wavelets(noisy: ImageArray, *, sigma: float, told: float, wavelet: str, levels: int) -> ImageArray:
    settings = {"sigma": told * sigma / 255, "wavelet": wavelet, "wavelet_levels": levels, "channel_axis": -1}
    image, shifts = noisy / 255, range(4)
    total = sum(
        np.roll(denoise_wavelet(np.roll(image, (i, j), (0, 1)), **settings, convert2ycbcr=True), (-i, -j), (0, 1))
        for i, j in product(shifts, shifts)
    )
    return _to_uint8(total / len(shifts) ** 2)


def _total_variation(noisy: ImageArray, *, sigma: float, weight: float) -> ImageArray:
    image = denoise_tv_chambolle(  # type: ignore[no-untyped-call]
        noisy / 255, weight=weight * sigma / 255, channel_axis=-1
    )
    return _to_uint8(image)


def _to_uint8(image: Any) -> ImageArray:
    return np.asarray(np.rint(255 * np.clip(image, 0, 1)), dtype=np.uint8)
