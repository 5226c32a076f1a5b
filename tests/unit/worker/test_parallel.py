"""Which cores compute, and that the bits of images do not depend on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from difuso.model.checkpoint import Checkpoint
from difuso.model.networks.configs import UNetConfig
from difuso.worker.device import cores
from difuso.worker.device.cores import CROWDED_SECONDS, LARGEST_ON_ONE, Core, ParallelNetwork
from difuso.worker.stepping import batched_network
from difuso.worker.stepping.runner import Runner
from tests.small_models import NETWORK, checkpoint_of

CPU = torch.device("cpu")
BATCH = torch.zeros(1, 3), torch.zeros(1)


class Clock:
    """A clock that a network of its own moves: its calls take as long as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.call_seconds = 100.0, 1.0
        self.used: list[int] = []  # the number of cores of each call
        read = SimpleNamespace(perf_counter=lambda: self.now, monotonic=lambda: self.now)
        for module in (batched_network, cores):
            monkeypatch.setattr(module, "time", read)

    def network(self, x: Tensor, t: Tensor) -> Tensor:
        self.used.append(torch.get_num_threads())
        self.now += self.call_seconds
        return 2 * x


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def neighbour(tmp_path: Path) -> Core:
    return Core(tmp_path / "other")


@pytest.fixture(autouse=True)
def two_cores() -> Iterator[None]:
    """Whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def checkpoint_that_rounds(*, alone: bool, sizes: Collection[int]) -> Checkpoint:
    """Its network gives other bits at some batch sizes: where one core computes, or where all do."""
    checkpoint = checkpoint_of(UNetConfig(**NETWORK))

    def forward(x: Tensor, timesteps: Tensor) -> Tensor:
        return 2 * x + 1e-6 * ((torch.get_num_threads() == 1) is alone and len(x) in sizes)

    checkpoint.denoiser.forward = forward
    return checkpoint


@pytest.mark.parametrize("exact", [True, False])
def test_cores_may_be_chosen_where_bits_do_not_depend_on_them(exact: bool) -> None:
    checkpoint = checkpoint_that_rounds(alone=True, sizes=[2, 3])
    runner = Runner(checkpoint, device=CPU, slots=6, exact=exact)
    assert runner.buckets == (1, 2, 3, 4, 5, 6)
    assert runner._network._network.choices == ({1, 4} if exact else {1, 2, 3, 4})  # more are not left to one core


@pytest.mark.parametrize("exact", [True, False])
def test_a_worker_with_neighbours_computes_any_batch_on_all_cores_if_its_bits_stay(
    exact: bool, neighbour: Core
) -> None:
    torch.set_num_threads(1)
    checkpoint = checkpoint_that_rounds(alone=False, sizes=[3])
    runner = Runner(checkpoint, device=CPU, slots=6, exact=exact, neighbour=neighbour)
    assert runner.buckets == (1, 2, 3, 4, 5, 6)
    assert set(runner.buckets) - runner._network._network.choices == ({3} if exact else set())


def test_a_lone_image_steps_as_fast_as_all_cores_make_it(clock: Clock, neighbour: Core) -> None:
    torch.set_num_threads(1)
    checkpoint = checkpoint_of(UNetConfig(**NETWORK))

    def forward(x: Tensor, timesteps: Tensor) -> Tensor:
        clock.now += len(x) / torch.get_num_threads()
        return 2 * x

    checkpoint.denoiser.forward = forward
    runner = Runner(checkpoint, device=CPU, slots=4, neighbour=neighbour)
    assert (runner.step_seconds, runner.rate) == (1 / 2, 1.0), "two workers that both have work have a core each"


def test_the_rate_is_that_of_all_calls_together() -> None:
    """Calls of one and of three seconds make two images a second of four, not the mean of four and of 4/3."""
    runner = Runner(checkpoint_of(UNetConfig(**NETWORK)), device=CPU, slots=4)
    size = runner.buckets[-1]
    runner._timer.over.extend([(size, size, size / 4), (size, size, 3 * size / 4)] * 200)
    runner._count()
    assert runner.rate == pytest.approx(2, rel=0.03)  # the last calls count a twentieth more
    runner._timer.over.append((size, size, 3600.0))
    runner._count()
    assert runner.rate > 1.7, "a pause is not the speed"


def test_one_core_computes_while_the_others_are_busy(clock: Clock) -> None:
    call = ParallelNetwork(clock.network, Core(None), may_choose=True)
    call.choices = frozenset({1})
    for clock.call_seconds in (1.0, 1.0, 9.0, 1.0, 1.0, 1.0):  # one pause is nothing
        call(*BATCH)
    assert clock.used == [2] * 6
    clock.used.clear()
    for clock.call_seconds in (9.0, 9.0, CROWDED_SECONDS / 4, CROWDED_SECONDS / 4, CROWDED_SECONDS, 9.0, 9.0):
        call(*BATCH)
    # Two slow calls, one core for as long as it says, one try that is slow again, and one core at once.
    assert clock.used == [2, 2, 1, 1, 1, 2, 1]
    clock.used.clear()
    clock.now += CROWDED_SECONDS
    for clock.call_seconds in (1.0, 1.0, 1.0):
        call(*BATCH)
    assert clock.used[-1] == 2


def test_a_batch_without_a_choice_is_computed_by_all_cores(clock: Clock) -> None:
    call = ParallelNetwork(clock.network, Core(None), may_choose=True)
    call.choices = frozenset({2})
    for clock.call_seconds in (1.0, *[9.0] * 10):
        call(*BATCH)
    assert clock.used == [2] * 11


def test_a_large_batch_is_not_left_to_one_core_by_what_is_no_worker(clock: Clock, neighbour: Core) -> None:
    torch.set_num_threads(1)
    size = LARGEST_ON_ONE + 1
    call = ParallelNetwork(clock.network, neighbour, may_choose=True)
    call.choices = frozenset({size})
    for clock.call_seconds in (1.0, *[9.0] * 10):
        call(torch.zeros(size, 3), torch.zeros(size))
    assert clock.used == [2] * 11


def test_workers_that_have_a_core_each_use_both_while_they_work_alone(
    clock: Clock, neighbour: Core, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    other = Core(tmp_path / "other")
    call = ParallelNetwork(clock.network, neighbour, may_choose=True)
    call.choices = frozenset({1})
    call(*BATCH)
    other.take()
    call(*BATCH)
    other.leave()
    call(*BATCH)
    assert clock.used == [2, 1, 2]
