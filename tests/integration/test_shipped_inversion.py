"""The faces that ship, inverted: what arrives is noise, and the faces come back from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model import load_checkpoint, make_plan, sample
from model.images import from_levels
from model.noise import draw_noise, image_generator
from model.plans.inversion import make_inversion
from training.data.faces import draw_face

TEACHER = Path("checkpoints/faces64-teacher")
FACES, STEPS = 64, 25


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_inverted_faces_are_noise_from_which_they_come_back() -> None:
    """Of 64 faces that it was not trained on: a deviation within 5 % of 1, and less than .02 lost there and back."""
    teacher = load_checkpoint(TEACHER)
    shape = teacher.config.shape
    faces = from_levels(torch.from_numpy(np.stack([draw_face(f"test-{i}", shape.height) for i in range(FACES)])))
    network = teacher.network.eval()
    inversion = make_inversion(teacher.schedule, steps=STEPS, prediction=teacher.config.prediction)
    weak = draw_noise([image_generator(seed) for seed in range(FACES)], shape)
    start = inversion.signal * faces + inversion.spread * weak
    noise = sample(inversion.plan, network, shape=shape, seeds=range(FACES), x_start=start)
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert (noise.flatten(1).std(dim=1) - 1).abs().max() < 0.1
    plan = make_plan(
        teacher.schedule, sampler="dpmpp", steps=STEPS, spacing="karras", prediction=teacher.config.prediction
    )
    back = sample(plan, network, shape=shape, seeds=range(FACES), x_start=noise)
    assert (back - faces).square().mean() < 0.02
