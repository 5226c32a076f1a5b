"""The step engine: what shares a batch, and that a picture does not depend on it."""

from __future__ import annotations

import copy
import itertools
import time
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.params import SamplingParams
from difuso.model.checkpoint import load_checkpoint
from difuso.model.errors import NonFiniteSample
from difuso.model.plans.plan import Column, Plan
from difuso.worker.engine.active import ActiveJob, EngineEvent, Finished, Previewed, Snapped, activate
from difuso.worker.engine.engine import StepEngine
from difuso.worker.engine.failures import Cancelled, DeadlineExceeded
from difuso.worker.engine.fairness import BACKGROUND_PAUSE, share_slots
from difuso.worker.engine.local import run_job
from difuso.worker.engine.results import encode_images
from difuso.worker.stepping.batched_network import most_agreeing, useful_size
from difuso.worker.stepping.runner import CPU_SLOTS, Runner, Slowness
from tests.rounding import assert_rounded_alike, layers
from tests.stepping import calls_of

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runner(models_dir: Path) -> Runner:
    return Runner(load_checkpoint(models_dir / "tiny"), device=CPU, slots=8)


@pytest.fixture
def start(runner: Runner) -> Callable[..., ActiveJob]:
    """Makes a job ready to step, with defaults for what a test does not name."""

    def make(
        *,
        on: Runner = runner,
        urgency: int = 3,
        timeout: int = 600,
        snapshot: bytes | None = None,
        **params: object,
    ) -> ActiveJob:
        filled = {"n": 1, "steps": 10, "sampler": "ddpm", "spacing": "linspace", "eta": 0.0, "seed": 0} | params
        job = Job(
            id=str(uuid.uuid4()),
            model="tiny",
            params=SamplingParams.model_validate(filled),
            urgency=urgency,
            accepted_at=time.time(),
            timeout=timeout,
        )
        return activate(job, on, snapshot=snapshot)

    return make


def run(*actives: ActiveJob) -> list[EngineEvent]:
    """Steps jobs to their end; returns what the engine said."""
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    for active in actives:
        engine.submit(active)
    while sum(isinstance(event, Finished) for event in events) < len(actives):
        engine.step()
    return events


def test_the_engine_notes_how_much_slower_steps_are_than_at_warm_up(
    runner: Runner, start: Callable[..., ActiveJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two models waits for the steps of both, and images are slower in batches that are not full."""
    other = copy.copy(runner)
    for each in (runner, other):
        monkeypatch.setattr(each, "slowness", Slowness())
        monkeypatch.setattr(each, "rate", 80.0)
        monkeypatch.setattr(each, "step_seconds", 0.05)
    clock = itertools.count(step=0.1)
    monkeypatch.setattr("difuso.worker.engine.engine.time.perf_counter", lambda: next(clock))
    engine = StepEngine(lambda event: None)
    for active in (start(n=8), start(on=other)):
        engine.submit(active)
    engine.step()
    turn = runner.slowness.factor * 8 / 80
    assert turn >= 0.5  # the clock was read at the beginning, at the end, and at least twice for each model
    assert other.slowness.factor * 0.05 == pytest.approx(turn)


def pictures(active: ActiveJob) -> Tensor:
    return torch.stack([t.x for t in active.trajectories])


def test_jobs_of_any_length_share_their_network_calls(runner: Runner, start: Callable[..., ActiveJob]) -> None:
    """Twelve jobs of 5 to 50 steps at once need about what their image-steps fill, not one call per job and step."""
    steps = [*range(5, 55, 5), 50, 50]
    with calls_of(runner) as calls:
        run(*[start(steps=count, seed=i) for i, count in enumerate(steps)])
    assert len(calls) < 1.3 * max(max(steps), sum(steps) / runner.slots)
    assert len(calls) < sum(steps) / 5


@pytest.mark.parametrize(
    ("seconds", "useful"),
    [
        ({1: 0.10, 2: 0.11, 4: 0.2, 8: 0.4, 16: 0.8}, 4),  # 20 images a second from 4 on
        ({1: 0.10, 2: 0.11, 4: 0.2, 8: 0.3, 16: 0.5}, 16),  # still faster
        ({1: 0.01, 2: 0.02, 4: 0.04, 8: 0.08, 16: 0.16}, 8),  # no faster, but quick
        ({2: 0.2, 4: 0.41, 8: 0.80, 16: 1.6}, 2),  # twice as many take twice as long
        ({2: 0.5, 8: 0.9, 16: 1.2}, 8),  # 16 would be faster, but a step would be too long
        ({2: 3.0, 16: 12.0}, 2),  # every step is too long
        ({16: 12.0}, 16),
    ],
)
def test_more_slots_than_pay_are_not_used(seconds: dict[int, float], useful: int) -> None:
    assert useful_size(seconds) == useful


@pytest.mark.parametrize(
    ("kinds", "kept"),  # sizes of one kind agree
    [
        ({1: "a", 2: "a", 4: "a"}, [1, 2, 4]),
        ({1: "a", 2: "b", 4: "b", 8: "b"}, [2, 4, 8]),
        ({1: "a", 2: "b", 4: "b", 8: "c"}, [2, 4]),  # a lone image pays for two, and not for eight
        ({1: "a", 2: "b", 4: "c"}, [4]),
        ({1: "a", 2: "a", 4: "b", 8: "b"}, [4, 8]),
    ],
)
def test_the_most_sizes_that_agree_are_kept(kinds: dict[int, str], kept: list[int]) -> None:
    assert most_agreeing({size: torch.full((size, 3), ord(kind)) for size, kind in kinds.items()}) == kept


def test_a_largest_size_that_disagrees_with_all_others_is_not_used(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is on one thread, where a convolution of sixteen images is computed in another order."""
    checkpoint = load_checkpoint(models_dir / "tiny")
    forward = checkpoint.network.forward
    monkeypatch.setattr(checkpoint.network, "forward", lambda x, *rest: forward(x, *rest) + (len(x) == 8) * 1e-6)
    runner = Runner(checkpoint, device=CPU, slots=8)
    assert 8 not in runner.buckets
    assert runner.slots == runner.buckets[-1] > 1


def test_measured_slots_are_one_of_the_sizes_that_agree(models_dir: Path) -> None:
    runner = Runner(load_checkpoint(models_dir / "tiny"), device=CPU)
    assert runner.slots == runner.buckets[-1] <= CPU_SLOTS
    largest = Runner(load_checkpoint(models_dir / "tiny"), device=CPU, slots=CPU_SLOTS)
    assert set(runner.buckets) <= set(largest.buckets)


@pytest.mark.parametrize(("slots", "sizes"), [(3, (1, 2, 3)), (14, (1, 2, 3, 4, 5, 6, 7, 8, 12, 14))])
def test_a_cpu_knows_every_small_batch_and_some_larger_ones(
    models_dir: Path, slots: int, sizes: tuple[int, ...]
) -> None:
    runner = Runner(load_checkpoint(models_dir / "tiny"), device=CPU, slots=slots, exact=False)
    assert runner.buckets == sizes


def test_without_exact_mode_pictures_agree_within_one_grey_level(
    models_dir: Path, start: Callable[..., ActiveJob]
) -> None:
    loose = Runner(load_checkpoint(models_dir / "tiny"), device=CPU, slots=8, exact=False)
    assert loose.buckets == tuple(range(1, 9))
    four, alone = start(on=loose, n=4, seed=100, steps=50), start(on=loose, n=1, seed=102, steps=50)
    run(four)
    run(alone)
    assert (pictures(four)[2] - pictures(alone)[0]).abs().max() < 1 / 127.5


def test_one_image_gets_a_slot_beside_sixty_four(start: Callable[..., ActiveJob]) -> None:
    large, small = start(n=64, steps=1000), start(n=1, steps=10)
    for turn in range(3):
        chosen = share_slots([large, small], 8, turn)
        assert [active for active, _ in chosen].count(small) == 1
        assert len(chosen) == len({id(t) for _, t in chosen}) == 8


def test_equal_jobs_get_equal_shares_over_time(start: Callable[..., ActiveJob]) -> None:
    jobs = [start(n=8) for _ in range(3)]
    chosen = [active for turn in range(9) for active, _ in share_slots(jobs, 8, turn)]
    assert [chosen.count(active) for active in jobs] == [24, 24, 24]


def test_a_guided_image_steps_even_with_a_single_slot(start: Callable[..., ActiveJob]) -> None:
    guided = start()
    (image,) = guided.trajectories
    table = image.plan.table.copy()
    table[:, Column.W] = 2.0
    image.plan = Plan(image.plan.timesteps, table)
    assert image.cost == 2
    assert [active for active, _ in share_slots([guided], 1, 0)] == [guided]


def test_urgent_jobs_come_first(start: Callable[..., ActiveJob]) -> None:
    normal, urgent = start(n=8), start(n=6, urgency=0)
    chosen = [active for active, _ in share_slots([normal, urgent], 8, 0)]
    assert chosen.count(urgent) == 6
    assert chosen.count(normal) == 2


def test_a_job_waits_for_one_step_of_background_work_at_most(start: Callable[..., ActiveJob]) -> None:
    """However many short jobs follow each other, the background gets a step after each pause."""
    background = start(n=8, steps=100, urgency=7)
    engine = StepEngine(lambda event: None)
    engine.submit(background)
    engine.step()
    short = start(steps=BACKGROUND_PAUSE)
    engine.submit(short)
    while not all(trajectory.finished for trajectory in short.trajectories):
        engine.step()
    assert (short.network_calls, background.network_calls) == (BACKGROUND_PAUSE, 1)
    for _ in range(2 * (BACKGROUND_PAUSE + 1)):
        engine.submit(start(steps=1))
        engine.step()
    assert background.network_calls == 3


def test_a_cancelled_job_leaves_at_the_next_step(start: Callable[..., ActiveJob]) -> None:
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    active = start(steps=1000)
    engine.submit(active)
    engine.step()
    active.cancel = True
    engine.step()
    (event,) = events
    assert isinstance(event, Finished)
    assert isinstance(event.error, Cancelled)
    assert active.image_steps == 1


def test_a_job_that_ran_too_long_fails_and_others_go_on(start: Callable[..., ActiveJob]) -> None:
    late, other = start(steps=1000), start(steps=5)
    late.denoise_seconds = late.job.timeout + 1
    outcome = {event.active: event.error for event in run(late, other) if isinstance(event, Finished)}
    assert isinstance(outcome[late], DeadlineExceeded)
    assert outcome[other] is None


def test_time_without_a_slot_is_not_time_that_a_job_ran(
    start: Callable[..., ActiveJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long more urgent jobs have all slots, a job that was accepted does not fail of it."""
    patient, urgent = start(), start(n=8, steps=5, urgency=0)
    clock = itertools.count(time.monotonic(), 1000)  # seconds pass from each look to the next
    monkeypatch.setattr("difuso.worker.engine.engine.time.monotonic", lambda: next(clock))
    outcome = {event.active: event.error for event in run(patient, urgent) if isinstance(event, Finished)}
    assert outcome == {patient: None, urgent: None}


def test_a_released_job_comes_back_with_its_state(start: Callable[..., ActiveJob]) -> None:
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    active = start(steps=50)
    engine.submit(active)
    for _ in range(5):
        engine.step()
    active.release = True
    engine.step()
    (event,) = events
    assert isinstance(event, Snapped)
    assert event.released
    assert event.snapshot.rows == (5,)


def test_a_preview_is_of_an_image_that_has_begun(runner: Runner, start: Callable[..., ActiveJob]) -> None:
    """Of more images than there are slots some wait for their first step, and have nothing to show but noise."""
    active = start(steps=4, n=9)
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    engine.submit(active)
    while not any(isinstance(event, Finished) for event in events):
        active.preview = True
        engine.step()
    previews = [event for event in events if isinstance(event, Previewed)]
    assert len(previews) >= 4
    assert {event.x0.shape for event in previews} == {(3, 16, 16)}
    assert all(event.x0.abs().max() <= 1 for event in previews)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_network_that_breaks_fails_the_job(
    runner: Runner, start: Callable[..., ActiveJob], monkeypatch: pytest.MonkeyPatch, poison: float
) -> None:
    """Also for infinity, which clipping would turn into a plausible picture."""
    network = runner._network._network
    monkeypatch.setattr(runner._network, "_network", lambda *args: network(*args) * poison)
    active = start()
    run(active)
    with pytest.raises(NonFiniteSample):
        encode_images(active)


def test_only_the_culprit_of_a_failed_batch_fails(
    runner: Runner, start: Callable[..., ActiveJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good, reference = start(seed=1), start(seed=2), start(seed=2)
    run(reference)
    step = runner.step
    culprit = bad.trajectories[0]

    def fragile(trajectories: list[object]) -> None:
        if culprit in trajectories and culprit.row == 3:
            raise RuntimeError("injected")
        step(trajectories)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "step", fragile)
    outcome = {event.active: event.error for event in run(bad, good) if isinstance(event, Finished)}
    assert isinstance(outcome[bad], RuntimeError)
    assert outcome[good] is None
    assert torch.equal(pictures(good), pictures(reference))


def test_a_job_ends_on_the_version_that_it_began_with(
    runner: Runner, models_dir: Path, start: Callable[..., ActiveJob]
) -> None:
    checkpoint = load_checkpoint(models_dir / "tiny")
    with torch.no_grad():
        for parameter in checkpoint.network.parameters():
            parameter.mul_(1.1)
    newer = Runner(checkpoint, device=CPU, slots=8)
    old, new = start(seed=3), start(on=newer, seed=3)
    engine = StepEngine(lambda event: None)
    engine.submit(old)
    for _ in range(4):
        engine.step()
    engine.submit(new)
    while old.unfinished or new.unfinished:
        engine.step()
    alone = [start(seed=3), start(on=newer, seed=3)]
    run(*alone)
    assert torch.equal(pictures(old), pictures(alone[0]))
    assert torch.equal(pictures(new), pictures(alone[1]))
    assert not torch.equal(pictures(old), pictures(new))
    forgotten = weakref.ref(newer)
    del newer, new, alone
    assert forgotten() is None, "the engine keeps nothing of a version without jobs"


def test_without_memory_a_batch_is_split(
    models_dir: Path, start: Callable[..., ActiveJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Runner(load_checkpoint(models_dir / "tiny"), device=CPU, slots=8)
    expected = start(on=small, n=8, seed=3)
    run(expected)
    network = small._network._network

    def hungry(x: Tensor, *rest: object) -> Tensor:
        if len(x) > 4:
            raise torch.OutOfMemoryError("injected")
        return network(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(small._network, "_network", hungry)
    active = start(on=small, n=8, seed=3)
    run(active)
    assert max(small.buckets) <= 4
    steps = active.job.params.steps * layers(small.checkpoint.network)
    assert_rounded_alike(pictures(active), pictures(expected), steps=steps)


def test_the_same_jobs_run_without_a_server(runner: Runner) -> None:
    params = SamplingParams(n=2, steps=5, sampler="ddim", spacing="trailing", eta=0.0, seed=4)
    job = Job(id=str(uuid.uuid4()), model="tiny", params=params, accepted_at=0, timeout=600)
    shares: list[float] = []
    drawn = run_job(runner, job, show=shares.append)
    assert shares == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert drawn.trace == {}
    assert [png[:8] for png in drawn.pngs] == [b"\x89PNG\r\n\x1a\n"] * 2
