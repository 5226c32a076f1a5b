"""Which cores compute a batch, and that its bits do not depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from model.networks.configs import UNetConfig
from tests.small_models import NETWORK, checkpoint_of
from worker import parallel
from worker.parallel import CROWDED_SECONDS, ParallelNetwork
from worker.runner import Runner


class Network:
    """Doubles its input, and notes the size of each batch and the number of cores that its thread uses."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        assert len(x) == len(t)
        self.calls.append((len(x), torch.get_num_threads()))
        return 2 * x


class Clock:
    """A clock that a network of its own moves: its calls take as long as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.call_seconds = 100.0, 1.0
        read = SimpleNamespace(perf_counter=lambda: self.now, monotonic=lambda: self.now)
        monkeypatch.setattr(parallel, "time", read)

    def network(self, x: Tensor, t: Tensor) -> Tensor:
        self.now += self.call_seconds
        return 2 * x


@pytest.fixture(autouse=True)
def two_cores() -> Iterator[None]:
    """Whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def batch(size: int) -> tuple[Tensor, Tensor]:
    return torch.arange(3.0 * size).view(size, 3), torch.arange(float(size))


@pytest.mark.parametrize(
    ("cores", "size", "calls"),
    [
        (2, 1, [(1, 2)]),
        (2, 3, [(3, 2)]),
        (2, 4, [(2, 1), (2, 1)]),
        (2, 16, [(8, 1), (8, 1)]),
        (4, 16, [(4, 1), (4, 1), (4, 1), (4, 1)]),
        (1, 16, [(16, 2)]),
    ],
)
def test_a_batch_is_split_if_each_core_gets_two_images(cores: int, size: int, calls: list[tuple[int, int]]) -> None:
    network = Network()
    x, t = batch(size)
    assert torch.equal(ParallelNetwork(network, cores)(x, t), 2 * x)
    assert network.calls == calls


def test_parts_are_of_one_size() -> None:
    network = ParallelNetwork(Network(), 4)
    assert [size for size in range(1, 17) if network.can_take(size)] == [1, 2, 3, 4, 5, 6, 7, 8, 12, 16]


def test_a_network_that_rounds_otherwise_in_parts_is_not_split() -> None:
    network = ParallelNetwork(lambda x, t: x + len(x), 2)
    x, t = batch(16)
    assert torch.equal(network.choose(x, t), x + 16)
    assert not network.is_split(16)
    assert network.can_take(5)


@pytest.mark.parametrize(("seconds_in_parts", "split"), [(0.5, True), (1.05, True), (1.2, False)])
def test_batches_are_split_if_it_takes_no_longer(
    monkeypatch: pytest.MonkeyPatch, seconds_in_parts: float, split: bool
) -> None:
    network, seconds = ParallelNetwork(Network(), 2), iter([1.0, seconds_in_parts])
    monkeypatch.setattr(parallel, "timed", lambda call: (call(), next(seconds)))
    network.choose(*batch(16))
    assert network.is_split(16) == split


@pytest.mark.parametrize("slots", [1, 3, 5, 15])
def test_a_runner_may_have_any_number_of_slots(slots: int) -> None:
    runner = Runner(checkpoint_of(UNetConfig(**NETWORK)), device=torch.device("cpu"), slots=slots, exact=False)
    assert runner.buckets[-1] == slots


@pytest.mark.parametrize("same", [True, False])
def test_one_core_is_used_in_exact_mode_only_if_the_bits_are_the_same(
    monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    checkpoint = checkpoint_of(UNetConfig(**NETWORK))
    forward = checkpoint.network.forward

    def other_bits(x: Tensor, *rest: Tensor) -> Tensor:
        out: Tensor = forward(x, *rest)
        return out + 1e-6 * (not same and len(x) < 4 and torch.get_num_threads() == 1)

    monkeypatch.setattr(checkpoint.network, "forward", other_bits)
    exact, loose = (Runner(checkpoint, device=torch.device("cpu"), slots=4, exact=each) for each in (True, False))
    assert exact._network.may_use_one is same
    assert loose._network.may_use_one


def test_an_error_of_one_part_is_raised_when_the_others_have_ended() -> None:
    failed, ended = Event(), Event()

    def network(x: Tensor, t: Tensor) -> Tensor:
        if t[0] == 0:
            failed.set()
            raise ValueError("the first part")
        assert failed.wait(10)
        ended.set()
        return x

    with pytest.raises(ValueError, match="the first part"):
        ParallelNetwork(network, 2)(*batch(4))
    assert ended.is_set()


def test_small_batches_keep_to_one_core_while_the_others_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    used: list[int] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        used.append(torch.get_num_threads())
        return clock.network(x, t)

    call = ParallelNetwork(network, 2)
    for clock.call_seconds in (1.0, 1.0, 9.0, 1.0, 1.0, 1.0):  # one pause is nothing
        call(*batch(1))
    assert used == [2] * 6
    used.clear()
    for clock.call_seconds in (9.0, 9.0, CROWDED_SECONDS / 4, CROWDED_SECONDS / 4, CROWDED_SECONDS, 9.0, 9.0):
        call(*batch(1))
    # Two slow calls, one core for as long as it says, one try that is slow again, and one core at once.
    assert used == [2, 2, 1, 1, 1, 2, 1]
    used.clear()
    clock.now += CROWDED_SECONDS
    for clock.call_seconds in (1.0, 1.0, 1.0):
        call(*batch(1))
    assert used[-1] == 2


def test_a_network_that_may_not_use_one_core_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    used: list[int] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        used.append(torch.get_num_threads())
        return clock.network(x, t)

    call = ParallelNetwork(network, 2)
    call.may_use_one = False
    for clock.call_seconds in (1.0, *[9.0] * 10):
        call(*batch(1))
    assert used == [2] * 11
