"""The faces that ship, inverted: what arrives is noise, and the faces come back from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from difuso.model import load_checkpoint, make_plan, networks_of, sample
from difuso.model.images import from_levels
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.inversion import make_inversion
from difuso.training.data.faces import draw_face

FACES, STEPS = 64, 25


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_inverted_faces_are_noise_from_which_they_come_back() -> None:
    """Of 64 faces that it was not trained on, without conditions: a deviation within 5 % of 1, and a loss below .02."""
    model = load_checkpoint("checkpoints/faces64")
    shape = model.config.shape
    faces = from_levels(torch.from_numpy(np.stack([draw_face(f"test-{i}", shape.height) for i in range(FACES)])))
    inversion = make_inversion(model.schedule, steps=STEPS, prediction=model.config.prediction)
    weak = draw_noise([image_generator(seed) for seed in range(FACES)], shape)
    start = inversion.signal * faces + inversion.spread * weak
    noise = sample(inversion.plan, **networks_of(model), shape=shape, seeds=range(FACES), noise=start)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert (noise.flatten(1).std(dim=1) - 1).abs().max() < 0.1
    plan = make_plan(model.schedule, sampler="dpmpp", steps=STEPS, spacing="karras", prediction=model.config.prediction)
    back = sample(plan, **networks_of(model), shape=shape, seeds=range(FACES), noise=noise)
    assert (back - faces).square().mean() < 0.02
