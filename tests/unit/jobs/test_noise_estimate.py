"""The noise estimate, on smooth content and on the drawings that the shipped model knows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from difuso.jobs.images.noise_estimate import estimate_sigma
from tests.pictures import saved

SIZE = 64


def noisy(content: np.ndarray, sigma: float, *, seed: int = 0) -> bytes:
    """White Gaussian noise added, then rounded and clipped to 8 bits; PNG."""
    values = content + sigma * np.random.default_rng(seed).standard_normal(content.shape)
    return saved(Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)), "PNG")


def smooth(channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    bands = [128 + 25 * np.sin(3 * x + y), 128 + 25 * np.cos(2 * y + x), 108 + 40 * x]
    return np.stack(bands, axis=-1) if channels == 3 else bands[0]


@pytest.mark.parametrize("sigma", [5, 15, 50])
def test_noise_on_smooth_content_is_found_within_five_percent(sigma: float) -> None:
    for seed in range(10):
        assert estimate_sigma(noisy(smooth(), sigma, seed=seed)) == pytest.approx(sigma, rel=0.05)
    grey = [estimate_sigma(noisy(smooth(channels=1), sigma, seed=seed)) for seed in range(10)]
    assert np.mean(grey) == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize(("sigma", "bias"), [(2, 0.04), (15, 0.06), (50, -0.10)])
def test_noise_on_drawn_faces_is_found_with_this_bias(sigma: float, bias: float) -> None:
    """Flat colours and hard edges, a fifth of it black or white; the bias is measured, and part of the description."""
    from difuso.training.data.faces import draw_face

    faces = [draw_face(f"test-{index}", SIZE).astype(float) for index in range(10)]
    found = [estimate_sigma(noisy(face, sigma, seed=index)) for index, face in enumerate(faces)]
    assert np.mean(found) / sigma - 1 == pytest.approx(bias, abs=0.04)
    assert np.std(found) < 0.08 * sigma


@pytest.mark.parametrize("level", [0, 255, 128])
def test_flat_pictures_are_clean(level: int) -> None:
    assert estimate_sigma(saved(Image.new("RGB", (SIZE, SIZE), (level,) * 3), "PNG")) == 0.0


@pytest.mark.parametrize("level", [0, 255])
def test_clipped_areas_hardly_count(level: int) -> None:
    """Half of the noise on black or white is lost; an eighth too little is found in a picture of which that is half."""
    content = np.full((SIZE, SIZE), 128.0)
    content[: SIZE // 2] = level
    assert estimate_sigma(noisy(content, 15)) == pytest.approx(15, rel=0.125)
