"""Faces that faces64 draws from a photograph, told nothing about it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from difuso.jobs.catalog import read_catalog
from difuso.jobs.contract import new_job
from difuso.jobs.images.fitting import fit, read_file
from difuso.jobs.kinds import KINDS
from difuso.model.checkpoint import load_checkpoint
from difuso.model.images import from_file
from difuso.training.data.face_attributes import CHOICES
from difuso.worker.engine.local import run_job
from difuso.worker.stepping.runner import Runner

COLOURS = [np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) for colour in CHOICES["clothes"].values()]


def shirts(png: bytes) -> int:
    """Returns how many colours of clothes are seen along the lower edge, apart from that of the background."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    others = [colour for colour in COLOURS if np.abs(colour - pixels[0, 0]).max() > 30]
    return sum(int((np.abs(pixels[58:] - colour).max(-1) < 24).sum()) >= 8 for colour in others)


@pytest.mark.slow
@pytest.mark.processors
def test_redrawn_from_a_photograph_they_wear_one_colour() -> None:
    """14 of 16 at least; told that there are no conditions, many wear two."""
    model = read_catalog(Path("checkpoints")).models["faces64"]
    runner = Runner(load_checkpoint("checkpoints/faces64"), device=torch.device("cpu"), slots=16)
    photograph = Path(get_sample_data("grace_hopper.jpg", asfileobj=False)).read_bytes()
    image, kind = fit(read_file(photograph), shape=model.config.shape), KINDS["denoise"]

    def clean(**told: object) -> int:
        query = kind.query.model_validate({"strength": 0.8, "n": 16, "seed": [0], **told})
        job = new_job("faces64", kind.prepare(query, model, {"image": image}))
        pngs = run_job(runner, job, [from_file(image.file)]).pngs
        return [shirts(png) for png in pngs].count(1)

    assert clean() >= 14 > clean(condition="")
