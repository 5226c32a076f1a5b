"""What a request takes of the limits of its owner: bounds on what is stored, and work as large as the images."""

from __future__ import annotations

import io
import random
import uuid
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.contract import new_job
from difuso.jobs.cost import KEPT_TWICE, cost_of
from difuso.jobs.images.fitting import fit, read_file
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.moments import film_size
from difuso.jobs.store.result_store import ResultStore
from difuso.model.checkpoint import Checkpoint
from difuso.model.conditions import Vector
from difuso.model.folders.config import SamplerDefaults
from difuso.model.images import from_file
from difuso.model.networks.configs import UNetConfig
from difuso.model.shape import Shape
from difuso.worker.engine.active import activate
from difuso.worker.engine.results import encode_result, store_results
from difuso.worker.stepping.trajectory import Moment
from tests.small_models import NETWORK, checkpoint_of, checkpoint_of_shape, upscaler_of

pytestmark = pytest.mark.usefixtures("one_thread")

SQUARE, PLANES, LARGE = (
    checkpoint_of_shape(shape) for shape in (Shape(3, 16, 16), Shape(4, 8, 16), Shape(1, 256, 256))
)

STYLED = UNetConfig(vector_size=512, **NETWORK)
WITH_STYLE = checkpoint_of(STYLED, conditions={"style": Vector(512)}, defaults=SamplerDefaults("ddim", 3, "trailing"))
DRAW = random.Random(0)
STYLES = [f"style:{','.join(str(DRAW.random()) for _ in range(512))}" for _ in range(20)]


def info_of(checkpoint: Checkpoint) -> ModelInfo:
    return ModelInfo("tiny", checkpoint.config, parameters=1, version="0" * 64)


def prepared(checkpoint: Checkpoint, kind: str, noises: int = 0, **query: Any) -> Prepared:
    info, found = info_of(checkpoint), KINDS[kind]
    asked = found.query(**query)
    noise = Image.effect_noise((16, 16), 90)
    file = io.BytesIO()
    noise.save(file, "PNG")
    fits = dict(found.parts(asked, info).fits)
    drawn = np.random.default_rng(0).standard_normal((noises, *info.config.shape.hwc))
    sent = {"noise": fits["noise"](drawn)} if noises else {}
    fits.pop("noise", None)
    images = sent | {name: make(read_file(file.getvalue())) for name, make in fits.items()}
    return found.prepare(asked, info, images)


@pytest.mark.parametrize(
    ("checkpoint", "kind", "query"),
    [
        (SQUARE, "generate", {"steps": 1}),
        (SQUARE, "generate", {"steps": 900, "n": 2}),
        (SQUARE, "generate", {"steps": 1, "noises": 64}),
        (SQUARE, "generate", {"steps": 4, "n": 3, "trace": ["all"], "seed": [2**52, 1, 2**52 + 1]}),
        (
            SQUARE,
            "generate",
            {"steps": 12, "spacing": "at:" + ",".join(f"{60.125 * step + 1}" for step in range(12))},
        ),
        (SQUARE, "denoise", {"steps": 3, "n": 3, "average": True, "sigma": 20, "trace": ["last"]}),
        (SQUARE, "interpolate", {"steps": 2, "lambda": [0, 0.123456789, 1], "mode": "ddim", "seed": [1]}),
        (PLANES, "generate", {"steps": 2, "n": 2, "bits": "16", "trace": ["1"]}),
        (LARGE, "generate", {"steps": 1, "n": 8, "bits": "16"}),
        (WITH_STYLE, "generate", {"steps": 1, "n": 3, "condition": ["style:" + ",".join(["0.123456789"] * 512)]}),
        (WITH_STYLE, "generate", {"steps": 1, "n": 20, "condition": STYLES}),
    ],
)
def test_a_job_stores_at_most_what_its_price_says_and_not_much_less(
    checkpoint: Checkpoint, kind: str, query: dict[str, Any], tmp_path: Path
) -> None:
    """Of noise, which does not compress. The text is a bound for jobs that say more."""
    request = prepared(checkpoint, kind, **query)
    store, job = ResultStore(str(tmp_path)), new_job("tiny", request, id=str(uuid.uuid4()))
    for image in request.images:
        store.write_upload(job.id, image.sha256, image.file)
    runner: Any = SimpleNamespace(checkpoint=checkpoint, device=torch.device("cpu"), precision="float32")
    active = activate(job, runner, sent=[from_file(image.file) for image in request.images], attempt=uuid.uuid4().hex)
    generator = torch.Generator().manual_seed(0)
    for trajectory in active.trajectories:
        trajectory.x = trajectory.x_start = torch.rand(trajectory.x.shape, generator=generator) * 2 - 1
        size = (len(trajectory.x), *film_size(*trajectory.x.shape[1:]))
        noise = torch.randint(0, 2, (len(trajectory.keeps), *size), generator=generator) * 2.0 - 1
        trajectory.moments = tuple(
            Moment(call, trajectory.x, trajectory.x) if is_traced else Moment(call, small)
            for (call, is_traced), small in zip(trajectory.keeps.items(), noise, strict=True)
        )
    store_results(store, [(active, encode_result(active))])
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    stored += KEPT_TWICE * len(zlib.compress(job.model_dump_json().encode()))
    slack = 24_000 * (1 + KEPT_TWICE + job.answers)
    assert stored <= cost_of(request, info_of(checkpoint)).stored_bytes <= 1.5 * stored + slack


def test_a_step_of_an_enlarging_model_costs_as_much_alone_as_in_a_cascade() -> None:
    upscaler = upscaler_of()
    shape = upscaler.config.small_shape
    assert shape is not None
    image = fit(Image.new("RGB", (16, 16)), shape=shape)
    query = KINDS["upscale"].query(steps=5, n=3)
    request = KINDS["upscale"].prepare(query, info_of(upscaler), {"image": image})
    weight = (upscaler.config.shape.height // shape.height) ** 2
    assert cost_of(request, info_of(upscaler)).image_steps == 5 * 3 * weight
