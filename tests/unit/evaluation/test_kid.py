"""The KID that a run logs is the one that `difuso evaluate quality` knows, of images in memory."""

from __future__ import annotations

import numpy as np
import pytest

from difuso.evaluation.distances import kernel_distance, kid_from
from difuso.evaluation.features import EfficientNetLite0
from difuso.training.data.faces import draw_faces


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_images_of_the_same_kind_are_nearer_than_noise(channels: int) -> None:
    faces = np.stack(list(draw_faces("test", 64, 64)))[..., :channels]
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 64, channels), dtype=np.uint8)
    distance = kid_from(faces[:32])
    assert abs(distance(faces[32:])) < 40 < 200 < distance(noise)


def test_it_is_a_thousand_times_the_kernel_distance() -> None:
    faces = np.stack(list(draw_faces("test", 16, 64)))
    extractor = EfficientNetLite0()
    expected = kernel_distance(extractor(faces[8:]).pooled, extractor(faces[:8]).pooled).value
    assert kid_from(faces[:8])(faces[8:]) == pytest.approx(1000 * expected, rel=1e-3, abs=0.05)
