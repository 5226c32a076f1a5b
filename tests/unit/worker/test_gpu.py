"""What a worker does differently on a GPU: it does not wait.

Those marked gpu need a CUDA device (`python -m pytest -m gpu`). The others hold here what can be held without one: a
tensor of the device `meta` has no numbers, so whoever looks at them fails, as whoever waits for a GPU would be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.jobs.contract import new_job
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.model.checkpoint import load_checkpoint
from difuso.model.ddrm import make_restoration
from difuso.model.noise import image_generator
from difuso.model.operators import Blur, Colorization, Inpainting, Operator, SuperResolution, gaussian_kernel
from difuso.worker.device.calls import CallTimer
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.stepping.runner import Runner
from difuso.worker.stepping.trajectory import Trajectory

META = torch.device("meta")
SHAPE = (3, 16, 16)
OPERATORS: dict[str, Operator] = {
    "inpaint": Inpainting(torch.arange(16).expand(16, 16) < 8, 3),
    "superres": SuperResolution(2, SHAPE),
    "colorize": Colorization(SHAPE),
    "blur": Blur(gaussian_kernel(1.0), SHAPE),
}


@pytest.fixture
def blind(models_dir: Path) -> Runner:
    """A runner whose device says nothing."""
    runner = Runner(load_checkpoint(models_dir / "tiny"), device=torch.device("cpu"), slots=8)
    runner.device = META
    runner._network = lambda x, *inputs: torch.empty_like(x)  # type: ignore[assignment]
    return runner


def unseen(runner: Runner, count: int, *, operator: Operator | None = None, **asked: Any) -> list[Trajectory]:
    """Trajectories whose state is on a device that says nothing."""
    checkpoint = runner.checkpoint
    plan, restoration = checkpoint.config.plan(checkpoint.schedule, **({"steps": 5} | asked)), None
    if operator is not None:
        y = operator.apply(torch.zeros(SHAPE))
        restoration = make_restoration(checkpoint.schedule, operator, y, sigma=0.1, steps=5).to(META)
        plan = restoration.plan
    x = torch.empty(SHAPE, device=META)
    return [Trajectory(plan, image_generator(seed), x, x, (x, x, x), restoration=restoration) for seed in range(count)]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp", "dpmpp_3m", "unipc", "heun"])
def test_a_step_looks_at_nothing_on_the_device(blind: Runner, sampler: str) -> None:
    steps = 4 if sampler == "heun" else 5
    batch = [*unseen(blind, 2, sampler=sampler, steps=steps), *unseen(blind, 1, clip="dynamic")]
    for _ in range(5):
        blind.step([t for t in batch if not t.finished])
    assert all(t.x.device == META for t in batch)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_restoration_computes_where_its_image_is(blind: Runner, name: str) -> None:
    batch = unseen(blind, 2, operator=OPERATORS[name])
    while not batch[0].finished:
        blind.step(batch)
    assert all(t.x.device == META for t in batch)
    assert OPERATORS[name].singular_values.device.type == "cpu", "another job's image may be elsewhere"


class FakeEvents:
    """A GPU's clock: each event happens one second after the last, and only when somebody waits for it."""

    def __init__(self) -> None:
        self.made = 0
        self.waited: list[int] = []
        self.recorded: list[object] = []

    def __call__(self, *, enable_timing: bool) -> SimpleNamespace:
        assert enable_timing
        number = self.made
        self.made += 1
        return SimpleNamespace(
            number=number,
            record=self.recorded.append,
            synchronize=lambda: self.waited.append(number),
            elapsed_time=lambda other: 1000.0 * (other.number - number),
        )


def test_calls_on_a_gpu_are_timed_later_and_the_host_is_never_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    events = FakeEvents()
    monkeypatch.setattr(torch.cuda, "Event", events)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    timer = CallTimer(torch.device("cuda:1"))
    for rows in range(1, 6):
        timer(lambda: torch.zeros(1), rows=rows, bucket=8)
        assert len(timer.over) == rows - 1
    assert timer.over == [(1, 8, 1.0), (2, 8, 1.0), (3, 8, 1.0), (4, 8, 1.0)]
    assert events.waited == [1, 3, 5, 7], "the end of each call, and nothing else"
    assert events.recorded == [torch.device("cuda:1")] * 10, "on the GPU that computes"


def test_calls_on_another_accelerator_are_awaited_before_their_time_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: order.append(f"awaited {device}"))

    def clock() -> float:
        order.append("clock")
        return float(len(order))

    def call() -> Tensor:
        order.append("call")
        return torch.zeros(1)

    monkeypatch.setattr("difuso.worker.device.calls.time.perf_counter", clock)
    timer = CallTimer(torch.device("mps"))
    timer(call, rows=1, bucket=1)
    assert order == ["clock", "call", "awaited mps", "clock"]


# On a CUDA device.


@pytest.fixture
def waits_are_errors() -> Iterator[Callable[[], None]]:
    """From the call of this function on, whoever waits for the GPU fails."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def started(runner: Runner, **asked: Any) -> ActiveJob:
    """A job of two pictures."""
    params = {"n": 2, "steps": 10, "sampler": "ddpm", "spacing": "linspace", "eta": 0.0, "seed": 0} | asked
    return activate(new_job("tiny", Prepared(SamplingParams.model_validate(params), Generation())), runner)


@pytest.mark.gpu
@pytest.mark.parametrize("params", [{}, {"sampler": "unipc"}, {"clip": "dynamic"}], ids=str)
def test_a_step_waits_for_nothing(
    models_dir: Path, waits_are_errors: Callable[[], None], params: dict[str, Any]
) -> None:
    runner = Runner(load_checkpoint(models_dir / "tiny"), device=torch.device("cuda"))
    active = started(runner, **params)
    runner.step(active.trajectories)
    waits_are_errors()
    for _ in range(8):
        runner.step(active.trajectories)


@pytest.mark.gpu
def test_a_gpu_and_the_cpu_draw_the_same_pictures_within_rounding(models_dir: Path) -> None:
    assert torch.allclose(drawn(models_dir, "cpu"), drawn(models_dir, "cuda"), atol=1 / 255)


def drawn(models_dir: Path, device: str) -> Tensor:
    return finished(Runner(load_checkpoint(models_dir / "tiny"), device=torch.device(device)))


def finished(runner: Runner) -> Tensor:
    """The pictures of a job, as tensors on the CPU."""
    active = started(runner)
    while active.unfinished:
        runner.step(active.unfinished)
    return torch.stack([t.x.cpu() for t in active.answers])
