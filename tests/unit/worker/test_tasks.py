"""Pictures from pictures: every kind of job against the plain loop, alone and all in one batch."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import math
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from difuso.commands.inspecting import recipe_in
from difuso.jobs.catalog import ModelInfo
from difuso.jobs.contract import TASK, Job, Picture
from difuso.jobs.errors import JobUnreadable, ResultExpired
from difuso.jobs.image_recipe import job_of
from difuso.jobs.images.npz import encode_npz
from difuso.jobs.kinds.base import Prepared, Task
from difuso.jobs.kinds.denoise import Denoising
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.kinds.interpolate import Interpolation
from difuso.jobs.kinds.restore import Restoring
from difuso.jobs.params import SamplingParams
from difuso.jobs.store.result_store import ResultStore
from difuso.model.ddrm import Restoration
from difuso.model.folders.config import ModelConfig
from difuso.model.images import from_png, to_png, to_uint8
from difuso.model.networks.configs import UNetConfig
from difuso.model.noise import draw_noise, image_generator, q_sample, slerp
from difuso.model.operators import SuperResolution
from difuso.model.plans.inversion import make_inversion
from difuso.model.plans.noise_level import GREY_LEVEL, noise_level
from difuso.model.plans.plan import Column
from difuso.model.sampling import sample
from difuso.model.step import advance
from difuso.worker.engine.active import ActiveJob, EngineEvent, Finished, activate
from difuso.worker.engine.engine import StepEngine
from difuso.worker.engine.fairness import forecast
from difuso.worker.engine.results import encode_images, encode_result, png_text, store_results, trace_arrays
from difuso.worker.engine.served_models import Models
from difuso.worker.kinds import WORKER_KINDS
from difuso.worker.queue.job_reading import read_job
from difuso.worker.stepping.runner import Runner
from difuso.worker.stepping.trajectory import encode_snapshot, take_snapshot
from tests.rounding import assert_rounded_alike, layers
from tests.small_models import CLASSES, CLASSIFIER, NETWORK, checkpoint_of
from tests.stepping import drawn, pngs_of, run, snapshot_of
from tests.trajectories import steps_of

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)
SEED, STEPS, DEPTH = 5, 4, 400
A, B = torch.rand((2, *SHAPE), generator=torch.Generator().manual_seed(8)) * 2 - 1
MASK = torch.full((1, 8, 8), -1.0)
MASK[:, 2:6, 3:] = 1.0
SMALL, GREY = A[:, ::2, ::2], A.mean(0, keepdim=True)
MIXED, ARC = (
    Interpolation(shares=(0.0, 0.4, 1.0), depth=DEPTH),
    Interpolation(shares=(0.0, 0.4, 1.0), depth=DEPTH, mode="ddim"),
)
SEEDS = Interpolation(shares=(0.0, 0.4, 1.0), depth=None, seeds=(SEED, 9))
NOISY = Denoising(sigma=25.0, depth=57)
ANEW = Denoising(depth=DEPTH)
INPAINT = Restoring(task="inpaint")
MULTISTEP = {"sampler": "dpmpp", "spacing": "trailing"}
INTERVAL = {"guidance_low": 0.1, "guidance_high": 1.0}
# Of each kind: its task, what comes with it, and the parameters that are not the usual ones.
KINDS: dict[str, tuple[Task | None, list[Tensor], dict[str, Any]]] = {
    "generate": (None, [], {"n": 2}),
    "guided": (None, [], {"n": 1, "label": 1, "guidance_scale": 2.0, "classifier_scale": 1.0}),
    "interpolate": (MIXED, [A, B], {"n": 3, "sampler": "ddpm"}),
    "independent": (MIXED.model_copy(update={"noise": "independent"}), [A, B], {"n": 3, "eta": 1.0}),
    "arc": (ARC, [A, B], {"n": 3}),
    "seeds": (SEEDS, [], {"n": 3}),
    "seeds with noise": (SEEDS, [], {"n": 3, "sampler": "ddpm"}),
    "guided seeds": (
        SEEDS,
        [],
        {"n": 3, "label": (2, 0, 1), "guidance_scale": 2.0, "classifier_scale": 1.0, **MULTISTEP},
    ),
    "guided arc": (ARC, [A, B], {"n": 3, "label": 2, "guidance_scale": 2.0, "classifier_scale": 1.0}),
    "guided in part": (None, [], {"n": 2, "label": 1, "guidance_scale": 2.0, "guidance_low": 0.3}),
    "arc guided in part": (ARC, [A, B], {"n": 3, "label": 2, "guidance_scale": 2.0, **INTERVAL}),
    "denoise": (NOISY, [A], {"n": 2, "sampler": "ddpm"}),
    "guess": (NOISY.model_copy(update={"mode": "mmse"}), [A], {"steps": 1}),
    "average": (NOISY.model_copy(update={"average": True}), [A], {"n": 3, "eta": 1.0}),
    "anew": (ANEW, [A], {"sampler": "dpmpp", "spacing": "trailing"}),
    "inpaint": (INPAINT, [A, MASK], {"n": 2}),
    "superres": (Restoring(task="superres", factor=2, sigma=5.0), [SMALL], {"label": 1, "guidance_scale": 2.0}),
    "superres guided in part": (
        Restoring(task="superres", factor=2, sigma=5.0),
        [SMALL],
        {"label": 1, "guidance_scale": 2.0, **INTERVAL},
    ),
    "colorize": (Restoring(task="colorize"), [GREY], {}),
    "deblur": (Restoring(task="deblur", width=0.7, sigma=2.0), [B], {}),
}

CHECKPOINT = checkpoint_of(UNetConfig(num_classes=3, **NETWORK), classes=CLASSES, classifier=CLASSIFIER)
MODEL = ModelInfo(CHECKPOINT.name, CHECKPOINT.config, parameters=0, version="0" * 64)

# Where a snapshot of each kind goes on: one of each task, and guidance.
MAIN = ("generate", "seeds with noise", "guided seeds", "arc guided in part", "average", "inpaint")
main_kinds = pytest.mark.parametrize(
    "kind", [kind if kind in MAIN else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)


@pytest.fixture(scope="module")
def runner() -> Runner:
    """Of a network with classes and a classifier."""
    return Runner(CHECKPOINT, device=CPU, slots=6)


def make_job(task: Task | None = None, **params: Any) -> Job:
    filled = {
        "n": 1,
        "steps": STEPS,
        "sampler": "ddim",
        "spacing": "leading",
        "eta": 0.0,
        "clip": "none",
        "seed": SEED,
    } | params
    made = SamplingParams.model_validate(filled)
    task = task or Generation()
    plan = (
        MODEL.config.plan_of(MODEL.schedule, made, start=getattr(task, "depth", None))
        if made.guidance.limited
        else None
    )
    guided = Prepared(made, task, plan=plan).guided_steps
    return Job(
        id=str(uuid.uuid4()), task=task, model="m", params=made, guided_steps=guided, accepted_at=0.0, timeout=600
    )


def start(runner: Runner, task: Task | None = None, sent: Any = (), **params: Any) -> ActiveJob:
    return activate(make_job(task, **params), runner, sent=sent)


def start_kind(runner: Runner, kind: str) -> ActiveJob:
    task, sent, params = KINDS[kind]
    return start(runner, task, sent, **params)


class Bench:
    """An engine and what it said."""

    def __init__(self, *actives: ActiveJob) -> None:
        self.events: list[EngineEvent] = []
        self.engine = StepEngine(self.events.append)
        for active in actives:
            self.engine.submit(active)

    def run(self, count: int) -> None:
        while sum(isinstance(event, Finished) for event in self.events) < count:
            self.engine.step()

    @property
    def errors(self) -> list[BaseException | None]:
        return [event.error for event in self.events if isinstance(event, Finished)]


def made(runner: Runner, task: Task | None = None, sent: Any = (), **params: Any) -> Tensor:
    active = start(runner, task, sent, **params)
    run(active)
    return drawn(active)


def denoiser_of(runner: Runner) -> Any:
    """The network asked for no class."""
    return lambda x_t, t: runner.checkpoint.network(x_t, t, labels=torch.full((len(x_t),), 3))


def plain(runner: Runner, x_start: Tensor | None, *, seeds: list[int], **params: Any) -> Tensor:
    filled: dict[str, Any] = {"sampler": "ddim", "steps": STEPS, "spacing": "leading", "eta": 0.0, "clip": "none"}
    filled |= params
    plan = runner.checkpoint.config.plan(runner.checkpoint.schedule, **filled)
    return sample(plan, denoiser_of(runner), shape=SHAPE, seeds=seeds, noise=x_start)


def assert_alike(runner: Runner, found: Tensor, expected: Tensor) -> None:
    """The engine's batches are of other sizes than the loop's, whose kernels may round differently, there and back."""
    assert_rounded_alike(found, expected, steps=2 * STEPS * layers(runner.checkpoint.network))


# All kinds


@pytest.mark.processors
def test_all_kinds_in_one_batch_are_what_they_are_alone(runner: Runner) -> None:
    together = {kind: start_kind(runner, kind) for kind in KINDS}
    assert all(active.left == active.job.image_steps for active in together.values())
    run(*together.values())
    for kind, active in together.items():
        assert (active.left, active.image_steps) == (0, active.job.image_steps), kind
        alone = start_kind(runner, kind)
        run(alone)
        assert torch.equal(drawn(active), drawn(alone)), kind
        assert torch.isfinite(drawn(alone)).all(), kind


# Interpolation


@pytest.mark.parametrize("noise", ["shared", "independent", "rescaled"])
def test_the_ends_are_single_reconstructions(runner: Runner, noise: Any) -> None:
    """Bit for bit: of an interpolation of that share alone, and of the picture itself where the noise is shared."""
    task = MIXED.model_copy(update={"noise": noise})
    found = made(runner, task, [A, B], n=3, sampler="ddpm")
    for i, share in enumerate(task.shares):
        alone = made(runner, task.model_copy(update={"shares": (share,)}), [A, B], sampler="ddpm")
        assert torch.equal(found[i : i + 1], alone)
    if noise == "shared":  # otherwise the second noise is drawn before the steps' own
        assert torch.equal(found[:1], made(runner, ANEW, [A], sampler="ddpm"))
        assert torch.equal(found[2:], made(runner, ANEW, [B], sampler="ddpm"))
    assert (found[0] - found[2]).abs().max() > 1e-3


def test_all_shares_have_the_same_noise(runner: Runner) -> None:
    """At the start and on the way, so that the same share gives the same picture, and a like picture for a like one."""
    shares = (0.3, 0.3, 0.301)
    found = made(runner, Interpolation(shares=shares, depth=DEPTH), [A, B], n=3, sampler="ddpm")
    assert torch.equal(found[0], found[1])
    assert (found[2] - found[0]).abs().max() < 0.02
    other = made(runner, Interpolation(shares=shares, depth=DEPTH), [A, B], n=3, sampler="ddpm", seed=SEED + 1)
    assert (other[0] - found[0]).abs().max() > 0.02


@pytest.mark.processors
def test_an_interpolation_is_the_plain_loop_from_the_mixture(runner: Runner) -> None:
    found = made(runner, MIXED, [A, B], n=3, sampler="ddpm")
    noise = draw_noise([image_generator(SEED)], SHAPE)
    mixture = torch.stack([(1 - share) * A + share * B for share in MIXED.shares])
    x_t = q_sample(runner.checkpoint.schedule, mixture, torch.full((3,), DEPTH), noise.expand(3, -1, -1, -1))
    assert_alike(runner, found, plain(runner, x_t, seeds=[SEED] * 3, sampler="ddpm", start=DEPTH))


@pytest.mark.parametrize(("noise", "variance"), [("shared", 0.9214), ("independent", 0.4607), ("rescaled", 0.9214)])
def test_the_variance_of_the_mixture(noise: Any, variance: float) -> None:
    """At t = 499 and the middle; the net expects 1 - abar = .9214. 2 % is three standard errors."""
    size = 128
    config = ModelConfig(UNetConfig(**NETWORK), image_size=size, prediction="v")
    fake = SimpleNamespace(
        checkpoint=SimpleNamespace(config=config, schedule=config.schedule.build()),
        device=torch.device("cpu"),
    )
    task = Interpolation(shares=(0.5,), depth=499, noise=noise)
    flat = torch.zeros((3, size, size))
    active = activate(make_job(task), cast("Runner", fake), sent=[flat, flat])
    assert active.answers[0].x.var().item() == pytest.approx(variance, rel=0.02)


@pytest.mark.processors
def test_an_arc_is_inverted_bent_and_decoded(runner: Runner) -> None:
    found = made(runner, ARC, [A, B], n=3)
    inversion = make_inversion(runner.checkpoint.schedule, steps=STEPS, prediction="v", start=DEPTH)
    weak = image_generator(SEED)
    noises = torch.cat([draw_noise([weak], SHAPE) for _ in "ab"])
    begun = inversion.signal * torch.stack([A, B]) + inversion.spread * noises
    ends = sample(inversion.plan, denoiser_of(runner), shape=SHAPE, seeds=[0, 0], noise=begun)
    starts = torch.stack([slerp(ends[0], ends[1], share) for share in ARC.shares])
    assert_alike(runner, found, plain(runner, starts, seeds=[0] * 3, start=DEPTH))


def test_inversions_go_first_and_what_is_mixed_begins_between_them(runner: Runner) -> None:
    active = start(runner, ARC, [A, B], n=3)
    bench = Bench(active)
    first, second = active.start.waited_for
    for _ in range(STEPS - 1):
        assert not any(mixed.ready for mixed in active.answers)
        assert active.unfinished == [first, second]
        bench.engine.step()
    for mixed, share in zip(active.answers, ARC.shares, strict=True):
        assert mixed.ready
        assert mixed.row == 0
        assert torch.equal(mixed.x, slerp(first.x, second.x, share))
    bench.run(1)
    assert active.image_steps == 3 * STEPS + 2 * (STEPS - 1)


def test_the_forecast_knows_that_decoding_comes_after_inverting(runner: Runner) -> None:
    active = start(runner, ARC, [A, B], n=3)
    bench = Bench(active)
    for done in range(2 * STEPS - 1):
        assert active.ahead[0].rounds == 2 * STEPS - 1 - done
        alone = active.ahead[0].rounds * runner.step_seconds * runner.slowness.factor
        assert forecast([active])[active] >= alone
        bench.engine.step()
    assert start_kind(runner, "generate").ahead[0].rounds == STEPS


GUIDED: dict[str, Any] = {"guidance_scale": 2.0, "classifier_scale": 1.0}


@pytest.mark.parametrize(
    "params",
    [
        {"sampler": "ddim"},
        {"sampler": "dpmpp", "spacing": "trailing"},
        {"sampler": "unipc", "spacing": "trailing", "label": 1, **GUIDED},
        {"sampler": "ddim", "label": (2, 0, 1), **GUIDED},
        {"sampler": "ddim", "eta": 1.0},
        {"sampler": "ddpm"},
    ],
)
def test_the_ends_between_two_seeds_are_the_images_of_the_seeds(runner: Runner, params: dict[str, Any]) -> None:
    """Bit for bit, although they come as one batch there, and alone here."""
    found = made(runner, SEEDS, [], n=3, **params)
    label = params.get("label")
    for end, seed in ((0, SEED), (2, 9)):
        own = label[end] if isinstance(label, tuple) else label
        assert torch.equal(found[end : end + 1], made(runner, seed=seed, **params | {"label": own}))
    assert (found[0] - found[2]).abs().max() > 1e-2


def test_between_two_seeds_runs_begin_on_the_arc_of_their_noises(runner: Runner) -> None:
    first, second = draw_noise([image_generator(seed) for seed in (SEED, 9)], SHAPE)
    starts = torch.stack([slerp(first, second, share) for share in SEEDS.shares])
    assert starts[1].std().item() == pytest.approx(1, abs=0.15)  # a straight line has 0.72
    active = start(runner, SEEDS, [], n=3)
    assert torch.equal(torch.stack([each.x for each in active.answers]), starts)
    found = made(runner, SEEDS, [], n=3)
    assert_alike(runner, found, plain(runner, starts, seeds=[0] * 3))


# Denoising


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_denoising_is_the_plain_loop_from_where_the_picture_enters(runner: Runner, sampler: str) -> None:
    found = made(runner, NOISY, [A], n=2, sampler=sampler)
    seeds = [SEED, SEED + 1]
    noise = draw_noise([image_generator(seed) for seed in seeds], SHAPE)
    abar = runner.checkpoint.schedule.alphas_cumprod[57]
    top_up = math.sqrt((1 - abar) / abar - (25 / 127.5) ** 2)
    assert top_up == pytest.approx(0.032517, abs=1e-6)
    x_start = math.sqrt(abar) * (A + top_up * noise)
    assert_alike(runner, found, plain(runner, x_start, seeds=seeds, sampler=sampler, start=57))
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_a_guess_is_one_call_without_more_noise(runner: Runner) -> None:
    found = made(runner, NOISY.model_copy(update={"mode": "mmse"}), [A], steps=1)
    schedule = runner.checkpoint.schedule
    x_t = noise_level(schedule, 25 * GREY_LEVEL).scale * A[None]
    abar = schedule.alphas_cumprod[57]
    v = denoiser_of(runner)(x_t, torch.tensor([57]))
    assert_alike(runner, found, math.sqrt(abar) * x_t - math.sqrt(1 - abar) * v)


def test_drawing_anew_begins_at_its_depth(runner: Runner) -> None:
    found = made(runner, ANEW, [A], n=2, sampler="ddpm")
    seeds = [SEED, SEED + 1]
    noise = draw_noise([image_generator(seed) for seed in seeds], SHAPE)
    x_t = q_sample(runner.checkpoint.schedule, A.expand(2, *SHAPE), torch.full((2,), DEPTH), noise)
    assert_alike(runner, found, plain(runner, x_t, seeds=seeds, sampler="ddpm", start=DEPTH))


def test_the_average_is_that_of_the_samples(runner: Runner) -> None:
    job = make_job(NOISY.model_copy(update={"average": True}), n=3, eta=1.0)
    assert job.answers == 1
    (png,) = pngs_of(runner, job, [A])
    samples = made(runner, NOISY, [A], n=3, eta=1.0)
    mean = Image.open(io.BytesIO(to_png(samples.mean(0))))
    assert Image.open(io.BytesIO(png)).tobytes() == mean.tobytes()


# Restoration


@pytest.mark.processors
def test_restoring_is_the_plain_loop(runner: Runner) -> None:
    """One by one: advance, then agree."""
    task, sent, params = KINDS["inpaint"]
    active = start(runner, task, sent, **params)
    restorations = [t.restoration for t in active.answers]
    run(active)
    for i, restoration in enumerate(restorations):
        assert isinstance(restoration, Restoration)
        generator = [image_generator(SEED + i)]
        x = restoration.begin(draw_noise(generator, SHAPE)[0])[None]
        x0 = torch.zeros_like(x)
        table = torch.from_numpy(restoration.plan.table.copy()).float()
        with torch.inference_mode():
            for row, t in enumerate(restoration.plan.timesteps):
                z = draw_noise(generator, SHAPE) if table[row, Column.S] else torch.zeros_like(x)
                out = denoiser_of(runner)(x, torch.tensor([t]))
                x, x0 = advance(x, x0, out, z, table[row][None])
                x = restoration.agree(row, x[0], x0[0], z[0])[None]
        assert_alike(runner, active.answers[i].x[None], x)


def test_inpainting_changes_nothing_outside_the_mask(runner: Runner) -> None:
    (png,) = pngs_of(runner, make_job(INPAINT), [A, MASK])
    hole = MASK[0] > 0
    before, after = to_uint8(A[None])[0], to_uint8(from_png(png)[None])[0]
    assert torch.equal(before[~hole], after[~hole])
    assert not torch.equal(before[hole], after[hole])


def test_what_was_measured_comes_out_of_the_restored_picture(runner: Runner) -> None:
    small = made(runner, Restoring(task="superres", factor=4), [A[:, ::4, ::4]])[0]
    assert_rounded_alike(SuperResolution(4, SHAPE).apply(small), A[:, ::4, ::4], steps=SHAPE[1] * SHAPE[2])
    coloured = made(runner, Restoring(task="colorize"), [GREY])[0]
    assert_rounded_alike(coloured.mean(0, keepdim=True), GREY, steps=SHAPE[1] * SHAPE[2])


# What comes with the job


@pytest.mark.parametrize(
    ("task", "sent"),
    [
        (MIXED, [A, B[:, :4]]),
        (ARC, []),
        (NOISY, [A, B]),
        (SEEDS, [A, B]),
        (INPAINT, [A, MASK[:, :4]]),
        (Restoring(task="superres", factor=4), [SMALL]),
    ],
)
def test_pictures_that_do_not_fit_the_task_are_unreadable(runner: Runner, task: Any, sent: list[Tensor]) -> None:
    n = len(task.shares) if isinstance(task, Interpolation) else 1
    with pytest.raises(JobUnreadable, match="uploaded images must have"):
        start(runner, task, sent, n=n)


def queued(store: ResultStore, kind: str) -> tuple[Job, Any]:
    """A job whose pictures lie in the store, and RQ's record of it."""
    task, sent, params = KINDS[kind]
    pngs = [to_png(picture) for picture in sent]
    found = tuple(Picture(sha256=hashlib.sha256(png).hexdigest(), width=8, height=8) for png in pngs)
    job = make_job(task, **params).model_copy(update={"pictures": found})
    for picture, png in zip(found, pngs, strict=True):
        store.write_upload(job.id, picture.sha256, png)
    return job, SimpleNamespace(
        function=TASK, versions=(), id=job.id, is_fresh=True, arguments={"job": job.model_dump(mode="json")}
    )


@main_kinds
def test_a_queued_job_is_opened_with_its_pictures(runner: Runner, tmp_path: Path, kind: str) -> None:
    store = ResultStore(str(tmp_path))
    job, record = queued(store, kind)
    active = read_job(record, Models({"m@": runner}), store, attempt="one")
    assert active.job == job
    run(active)
    store_results(store, [(active, encode_result(active))])
    manifest = store.manifest(job.id)
    assert manifest is not None
    assert len(manifest.images) == job.answers
    assert manifest.timesteps == active.answers[0].plan.timesteps
    for index, image in enumerate(manifest.images):
        shared = isinstance(job.task, Interpolation)
        assert image.seed == SEED + (0 if shared else index)
        assert hashlib.sha256(store.image(manifest, index)).hexdigest() == image.sha256


def test_a_picture_that_is_gone_or_damaged_makes_the_job_unreadable(runner: Runner, tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path))
    job, record = queued(store, "inpaint")
    upload = tmp_path / "uploads" / job.id[:2] / job.id / job.pictures[1].sha256
    upload.write_bytes(to_png(-MASK))
    with pytest.raises(JobUnreadable, match="missing or damaged"):
        read_job(record, Models({"m@": runner}), store, attempt="one")
    upload.unlink()
    with pytest.raises(JobUnreadable, match="missing or damaged"):
        read_job(record, Models({"m@": runner}), store, attempt="one")


# The recipe in the picture


@main_kinds
def test_a_picture_says_how_it_was_made(runner: Runner, tmp_path: Path, kind: str) -> None:
    job, _ = queued(ResultStore(str(tmp_path)), kind)
    recipes = [json.loads(png_text(runner, job, (9, 0), index)["difuso"]) for index in range(job.answers)]
    for index, facts in enumerate(recipes):
        assert facts["timesteps"] == [9, 0]
        assert facts["steps"] == job.params.steps
        assert facts["version"] == "ab" * 32
        if job.kind == "generate":
            assert "kind" not in facts
            continue
        assert facts["kind"] == job.kind
        assert facts["pictures"] == [picture.sha256 for picture in job.pictures]
        own = job.task.model_dump(mode="json")
        if isinstance(job.task, Interpolation):
            own["shares"] = [job.task.shares[index]]
        assert own.items() <= facts.items()
    seeds = [facts["seed"] for facts in recipes]
    assert seeds == [SEED + (0 if job.kind == "interpolate" else index) for index in range(job.answers)]
    assert ("n" in recipes[0]) == (kind == "average")


# What a job keeps of its trajectories


def traced(job: Job) -> Job:
    """The job with every moment."""
    return job.model_copy(update={"trace": tuple(range(1, job.params.steps + 1))})


def images_of(states: np.ndarray[Any, Any]) -> list[Tensor]:
    """Images (N, H, W, C) as the engine has them."""
    return [torch.from_numpy(state).permute(2, 0, 1) for state in states]


def test_a_job_does_not_go_on_from_a_snapshot_of_another_run(runner: Runner) -> None:
    """A client may use an id again when its job is forgotten, and the sweep comes later than that."""
    task, sent, params = KINDS["generate"]
    old = make_job(task, **params)
    bench = Bench(begun := activate(old, runner, sent=sent))
    bench.engine.step()
    snapshot = snapshot_of(begun)
    new = old.model_copy(update={"params": old.params.model_copy(update={"seed": 77})})
    with_trace = old.model_copy(update={"trace": (1, 2)})
    for other in (new, with_trace):
        assert activate(other, runner, sent=sent, snapshot=snapshot).resumed_at == 0
    newer = copy.copy(runner)
    newer.checkpoint = dataclasses.replace(runner.checkpoint, version="ef" * 32)
    assert activate(old, newer, sent=sent, snapshot=snapshot).resumed_at == 0
    assert activate(old, runner, sent=sent, snapshot=b"no snapshot").resumed_at == 0
    assert activate(old, runner, sent=sent, snapshot=snapshot).resumed_at > 0


@main_kinds
def test_a_trace_has_the_same_bytes_after_a_hand_over_at_every_step(runner: Runner, kind: str) -> None:
    task, sent, params = KINDS[kind]
    job = traced(make_job(task, **params))
    run(whole := activate(job, runner, sent=sent))
    active, workers = activate(job, runner, sent=sent), 1
    while True:
        bench = Bench(active)
        bench.engine.step()
        if bench.errors:
            break
        snapshot = encode_snapshot(take_snapshot(active.trajectories, seconds=(float(workers), 0.5)), active.run_sha256)
        active = activate(job, runner, sent=sent, snapshot=snapshot)
        assert (active.resumed_at > 0, active.denoise_seconds, active.device_seconds) == (True, workers, 0.5)
        workers += 1
    assert workers >= job.params.steps
    assert encode_npz(trace_arrays(active)) == encode_npz(trace_arrays(whole))


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp", "heun", "unipc", "dpmpp_3m", "lms", "plms", "deis_3", "dpm2"])
def test_what_a_sampler_remembers_survives_a_hand_over_at_every_step(runner: Runner, sampler: str) -> None:
    job = make_job(n=2, sampler=sampler, spacing="karras")
    run(whole := activate(job, runner))
    active, sizes = activate(job, runner), []
    while True:
        bench = Bench(active)
        bench.engine.step()
        if bench.errors:
            break
        sizes.append(len(snapshot := snapshot_of(active)))
        active = activate(job, runner, snapshot=snapshot)
    assert encode_images(active) == encode_images(whole)
    kept = {"unipc": 2, "lms": 3, "plms": 2, "deis_3": 2}.get(sampler, 1)  # in four calls
    state = 4 * math.prod(SHAPE) + kept * 4 * math.prod(SHAPE) + len(torch.Generator().get_state())
    assert sizes == pytest.approx([2 * state] * len(sizes), abs=600)  # and their names


@main_kinds
def test_the_last_moment_is_the_image_before_it_is_rounded(runner: Runner, kind: str) -> None:
    task, sent, params = KINDS[kind]
    job = make_job(task, **params)
    run(plain_one := activate(job, runner, sent=sent))
    run(active := activate(traced(job), runner, sent=sent))
    arrays = trace_arrays(active)
    n, steps = len(active.answers), job.params.steps
    assert {name: array.dtype for name, array in arrays.items()} == {
        "timesteps": np.float64,
        "alphas_cumprod": np.float64,
        "x_t": np.float32,
        "x_0": np.float32,
        "x_start": np.float32,
    }
    assert arrays["x_t"].shape == arrays["x_0"].shape == (n, steps, 8, 8, 3)
    assert arrays["x_start"].shape == (n, 8, 8, 3)
    assert arrays["timesteps"].shape == arrays["alphas_cumprod"].shape == (steps,)
    assert (arrays["timesteps"][-1], arrays["alphas_cumprod"][-1]) == (-1, 1)
    ends = WORKER_KINDS[job.kind].finish(job, images_of(arrays["x_t"][:, -1]))
    pngs = encode_images(active)
    assert [to_uint8(end[None])[0].tolist() for end in ends] == [
        np.asarray(Image.open(io.BytesIO(png))).tolist() for png in pngs
    ]
    assert pngs == encode_images(plain_one), "a trace changes no byte of an image"
    assert trace_arrays(plain_one) == {}


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp", "heun", "unipc", "lms", "plms", "dpm2_ancestral"])
def test_a_trace_holds_what_the_plain_loop_has_after_each_call(runner: Runner, sampler: str) -> None:
    job = traced(make_job(n=2, sampler=sampler, spacing="trailing"))
    run(active := activate(job, runner))
    arrays = trace_arrays(active)
    plan = runner.checkpoint.config.plan_of(runner.checkpoint.schedule, job.params)
    loop = steps_of(plan, denoiser_of(runner), shape=SHAPE, seeds=[SEED, SEED + 1])
    assert len(loop) == STEPS
    for k, (_, x, x0) in enumerate(loop):
        assert_alike(runner, torch.stack(images_of(arrays["x_t"][:, k])), x)
        assert_alike(runner, torch.stack(images_of(arrays["x_0"][:, k])), x0)


def test_the_moments_of_ddim_lie_where_the_trace_says(runner: Runner) -> None:
    """x' = sqrt(abar') x0 + sqrt(1 - abar') eps, with the eps that leads from x0 to the x before (Song et al. 2021)."""
    run(active := activate(traced(make_job(n=2)), runner))
    arrays = trace_arrays(active)
    left = arrays["alphas_cumprod"][:, None, None, None]
    signal, spread = np.sqrt(left), np.sqrt(1 - left)
    x, x0 = arrays["x_t"], arrays["x_0"]
    eps = (x[:, :-1] - signal[:-1] * x0[:, 1:]) / spread[:-1]
    assert np.allclose(x[:, 1:], signal[1:] * x0[:, 1:] + spread[1:] * eps, atol=1e-5)


def test_only_the_named_moments_are_kept_and_snapshots_grow_by_them_alone(runner: Runner) -> None:
    job = make_job(n=2)
    run(every := activate(traced(job), runner))
    run(some := activate(job.model_copy(update={"trace": (2, STEPS)}), runner))
    run(none := activate(job, runner))
    for name in ("x_t", "x_0"):
        assert np.array_equal(trace_arrays(some)[name], trace_arrays(every)[name][:, [1, -1]])
    assert np.array_equal(trace_arrays(some)["timesteps"], trace_arrays(every)["timesteps"][[1, -1]])
    sizes = [len(encode_snapshot(take_snapshot(each.trajectories), "00" * 32)) for each in (none, some, every)]
    single = 2 * 4 * math.prod(SHAPE)  # the start has half
    assert sizes[1] - sizes[0] == pytest.approx(2 * 2.5 * single, abs=200)  # and their names
    assert sizes[2] - sizes[0] == pytest.approx(2 * (STEPS + 0.5) * single, abs=200)


def test_a_trace_is_stored_with_its_result_and_deleted_with_it(runner: Runner, tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path))
    run(active := activate(traced(make_job(n=2)), runner, attempt="one"))
    store_results(store, [(active, encode_result(active))])
    manifest = store.manifest(active.job.id)
    assert manifest is not None
    assert manifest.trace == "one/trace.npz"
    assert store.trace(manifest) == encode_npz(trace_arrays(active))
    store.delete_images(active.job.id)
    assert not list(tmp_path.rglob("*.npz"))
    with pytest.raises(ResultExpired):
        store.trace(manifest)
    run(plain_one := activate(make_job(), runner, attempt="one"))
    store_results(store, [(plain_one, encode_result(plain_one))])
    manifest = store.manifest(plain_one.job.id)
    assert manifest is not None
    assert store.trace(manifest) is None
    assert not list(tmp_path.rglob("*.npz"))


def test_whoever_stores_second_learns_the_versions_of_the_first(runner: Runner, tmp_path: Path) -> None:
    store, job = ResultStore(str(tmp_path)), make_job()
    first, second = (activate(job.bound_to((digit * 64,)), runner, attempt=digit) for digit in "ab")
    found = []
    for active in (first, second):
        run(active)
        found += store_results(store, [(active, encode_result(active))])
    assert [spent.manifest is None for spent in found] == [False, True]
    assert [spent.versions for spent in found] == [("a" * 64,)] * 2


SEVERAL: dict[str, Any] = {"n": 3, "seed": [9, SEED, 9], "label": [2, 0, 1]}


@pytest.mark.parametrize(
    ("task", "sent", "params"),
    [
        (None, [], SEVERAL | {"sampler": "ddpm"}),
        (None, [], SEVERAL | GUIDED),
        (None, [], SEVERAL | {"seed": SEED}),
        (None, [], SEVERAL | {"label": 1}),
        (NOISY, [A], SEVERAL | {"guidance_scale": 2.0, "sampler": "ddpm"}),
        (ANEW, [A], SEVERAL | {"classifier_scale": 1.0}),
        (INPAINT, [A, MASK], SEVERAL | {"eta": 0.85}),
        (MIXED, [A, B], SEVERAL | GUIDED | {"seed": SEED, "sampler": "ddpm"}),
    ],
)
def test_each_image_of_several_seeds_and_classes_is_the_file_that_it_is_alone(
    runner: Runner, task: Task | None, sent: list[Tensor], params: dict[str, Any]
) -> None:
    """The recipe that it holds says so, and makes it again."""
    job = make_job(task, **params)
    found = tuple(Picture(sha256=hashlib.sha256(to_png(x)).hexdigest(), width=8, height=8) for x in sent)
    job = job.model_copy(update={"pictures": found})
    together = pngs_of(runner, job, sent)
    assert len({*together}) == (2 if params["label"] == 1 else 3)
    for index, png in enumerate(together):
        own = {"n": 1, "seed": job.task.seed(job.params, index), "label": job.params.label_of(index)}
        own_task = (
            task.model_copy(update={"shares": (task.shares[index],)}) if isinstance(task, Interpolation) else task
        )
        single = make_job(own_task, **params | own).model_copy(update={"pictures": found})
        assert pngs_of(runner, single, sent) == [png]
        facts = recipe_in(png)
        assert (facts["seed"], facts["label"]) == (own["seed"], own["label"])
        assert job_of(facts).params == single.params


def test_the_mean_of_several_seeds_and_classes_names_all_of_them(runner: Runner) -> None:
    mean = pngs_of(runner, make_job(NOISY.model_copy(update={"average": True}), **SEVERAL), [A])
    facts = recipe_in(mean[0])
    assert (facts["n"], facts["seed"], facts["label"]) == (3, SEVERAL["seed"], SEVERAL["label"])
    again = job_of(facts)
    assert pngs_of(runner, make_job(again.task, **again.params.model_dump()), [A]) == mean
