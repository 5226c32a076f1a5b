"""Jobs of models whose images are not square, or have other channels than a PNG."""

from __future__ import annotations

import io
import itertools
import uuid
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from difuso.commands.inspecting import recipe_in
from difuso.jobs.contract import TASK, Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.image_recipe import job_of
from difuso.jobs.images.npz import pixels_of
from difuso.jobs.kinds.base import Task
from difuso.jobs.kinds.denoise import Denoising
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.kinds.interpolate import Interpolation
from difuso.jobs.kinds.restore import Restoring
from difuso.jobs.params import SamplingParams
from difuso.jobs.store.result_store import ResultStore
from difuso.model.images import from_png, to_png
from difuso.model.sampling import sample
from difuso.model.shape import Shape
from difuso.worker.engine.active import activate
from difuso.worker.engine.results import encode_images
from difuso.worker.engine.served_models import Models
from difuso.worker.kinds import expect
from difuso.worker.queue.job_reading import read_job
from difuso.worker.stepping.runner import Runner
from difuso.worker.stepping.trajectory import encode_snapshot, take_snapshot
from tests.small_models import checkpoint_of_shape
from tests.stepping import pngs_of, run, stepping

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [Shape(3, 8, 12), Shape(1, 12, 8), Shape(4, 8, 12)]
STEPS, SEED, DEPTH = 4, 5, 400
KINDS: dict[str, Task] = {
    "generate": Generation(),
    "interpolate": Interpolation(shares=(0.0, 0.4), depth=DEPTH),
    "arc": Interpolation(shares=(0.0, 0.4), depth=DEPTH, mode="ddim"),
    "seeds": Interpolation(shares=(0.0, 0.4), seeds=(SEED, 9)),
    "denoise": Denoising(sigma=25.0, depth=57),
    "inpaint": Restoring(task="inpaint"),
    "superres": Restoring(task="superres", factor=2),
    "deblur": Restoring(task="deblur", width=0.7, sigma=2.0),
}


def runner_of(shape: Shape) -> Runner:
    return Runner(checkpoint_of_shape(shape), device=torch.device("cpu"), slots=4)


@pytest.fixture(scope="module")
def runners() -> dict[Shape, Runner]:
    return {shape: runner_of(shape) for shape in SHAPES}


def image(shape: tuple[int, ...], seed: int) -> Tensor:
    """An image as it comes out of the store."""
    pixels = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return from_png(to_png(pixels))


def sent_with(kind: str, shape: Shape) -> list[Tensor]:
    channels, height, width = shape
    if kind in ("interpolate", "arc"):
        return [image(shape, 1), image(shape, 2)]
    if kind == "inpaint":
        mask = torch.full((1, height, width), -1.0)
        mask[:, 2:5, 3:] = 1.0
        return [image(shape, 1), mask]
    if kind == "superres":
        return [image((channels, height // 2, width // 2), 1)]
    return [] if kind in ("generate", "seeds") else [image(shape, 1)]


def job(task: Task, *, bits: Any = 8, **params: Any) -> Job:
    filled = {"n": 2, "steps": STEPS, "sampler": "ddim", "spacing": "leading", "eta": 0.0, "clip": "none", "seed": SEED}
    made = SamplingParams.model_validate(filled | params)
    return Job(id=str(uuid.uuid4()), task=task, model="m", params=made, bits=bits, accepted_at=0.0, timeout=600)


@pytest.mark.parametrize(("kind", "shape"), [*zip(KINDS, itertools.cycle(SHAPES), strict=False)], ids=str)
def test_every_kind_goes_on_from_a_snapshot_to_the_same_bytes(
    runners: dict[Shape, Runner], kind: str, shape: Shape
) -> None:
    runner, asked, sent = runners[shape], job(KINDS[kind]), sent_with(kind, shape)
    snapshots = []
    whole = activate(asked, runner, sent=sent)
    for _ in stepping(whole):
        snapshots.append(encode_snapshot(take_snapshot(whole.trajectories), whole.run_sha256))
    resumed = activate(asked, runner, sent=sent, snapshot=snapshots[len(snapshots) // 2])
    assert resumed.resumed_at > 0
    run(resumed)
    pngs = encode_images(resumed)
    assert pngs == encode_images(whole) == pngs_of(runner, asked, sent)
    assert all(pixels_of(png, planes=shape.planes).shape == shape.hwc for png in pngs)
    assert len(set(pngs)) == 2


@pytest.mark.processors
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_generated_images_are_those_of_the_plain_loop(runners: dict[Shape, Runner], shape: Shape) -> None:
    checkpoint = runners[shape].checkpoint
    plan = checkpoint.config.plan(
        checkpoint.schedule, sampler="ddim", steps=STEPS, spacing="leading", eta=0.0, clip="none"
    )
    expected = sample(plan, checkpoint.network, shape=shape, seeds=[SEED, SEED + 1])
    found = [pixels_of(png, planes=shape.planes) for png in pngs_of(runners[shape], job(Generation()), [])]
    levels = ((expected + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(np.stack(found) - levels).max() <= 0.51  # rounded, after sums in another order


@pytest.mark.parametrize(("shape", "bits"), [(SHAPES[0], 8), (SHAPES[1], 16), (SHAPES[2], 8)])
def test_a_png_holds_every_level_of_an_image(shape: Shape, bits: int) -> None:
    top = 2**bits - 1
    levels = np.random.default_rng(0).integers(0, top + 1, shape, dtype=np.int64)
    exact = torch.from_numpy(levels / top * 2 - 1).float()
    png = to_png(exact, bits=bits)
    assert np.array_equal(pixels_of(png, planes=shape.planes), np.moveaxis(levels, 0, 2))
    (read,) = expect([from_png(png)], shape)
    assert torch.allclose(read, exact, rtol=0, atol=1e-6)


def test_what_is_known_of_16_bits_comes_back_bit_for_bit(runners: dict[Shape, Runner]) -> None:
    shape = Shape(1, 12, 8)
    levels = np.random.default_rng(1).integers(0, 65536, (12, 8), dtype=np.uint16)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    nothing_missing = torch.full((1, 12, 8), -1.0)
    asked = job(Restoring(task="inpaint"), bits=16, n=1)
    (png,) = pngs_of(runners[shape], asked, [from_png(file.getvalue()), nothing_missing])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), levels)
    assert recipe_in(png)["bits"] == 16
    assert job_of(recipe_in(png)).bits == 16


def test_8_bits_are_the_16_bits_rounded_and_their_recipe_does_not_name_them(runners: dict[Shape, Runner]) -> None:
    runner = runners[Shape(1, 12, 8)]
    (deep,), (usual,) = (pngs_of(runner, job(Generation(), bits=bits, n=1), []) for bits in (16, 8))
    fine, coarse = (np.asarray(Image.open(io.BytesIO(png))).astype(float) for png in (deep, usual))
    assert np.abs(fine / 257 - coarse).max() <= 0.5 + 1 / 257
    assert len(np.unique(fine % 257)) > 20
    assert "bits" not in recipe_in(usual)


def test_a_job_of_other_planes_than_the_models_is_unreadable(runners: dict[Shape, Runner], tmp_path: Path) -> None:
    """As when the model was replaced by one of another kind while the job waited."""
    asked = job(Generation())
    for planes in (4, 1):
        content = asked.model_copy(update={"planes": planes}).model_dump(mode="json")
        record: Any = SimpleNamespace(
            function=TASK, versions=(), id=asked.id, is_fresh=True, arguments={"job": content}
        )
        read = partial(read_job, record, store=ResultStore(str(tmp_path)), attempt="one")
        assert read(Models({"m@": runners[Shape(4, 8, 12) if planes == 4 else Shape(3, 8, 12)]})).job.planes == planes
        with pytest.raises(JobUnreadable, match="another number of channels"):
            read(Models({"m@": runners[Shape(3, 8, 12) if planes == 4 else Shape(4, 8, 12)]}))


def test_planes_of_another_number_are_refused() -> None:
    with pytest.raises(JobUnreadable, match="must have the shapes"):
        expect([image((5, 8, 12), 1)], (4, 8, 12))
