"""Which cores compute, and that the bits of images do not depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from model.networks.configs import UNetConfig
from tests.small_models import NETWORK, checkpoint_of
from worker import parallel
from worker.parallel import CROWDED_SECONDS, LARGEST_ON_ONE, ParallelNetwork
from worker.runner import Runner

BATCH = torch.zeros(1, 3), torch.zeros(1)


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


def test_a_warm_up_on_busy_cores_compares_the_bits_of_all_cores_with_those_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it to use one core already, it would compare one core with itself."""
    checkpoint = checkpoint_of(UNetConfig(**NETWORK))
    forward = checkpoint.network.forward

    def other_bits(x: Tensor, *rest: Tensor) -> Tensor:
        out: Tensor = forward(x, *rest)
        return out + 1e-6 * (torch.get_num_threads() == 1)

    learn = ParallelNetwork._learn

    def learn_that_all_is_slow(network: ParallelNetwork, size: int, seconds: float) -> None:
        learn(network, size, 0.001)
        for _ in range(9):
            learn(network, size, 1.0)

    monkeypatch.setattr(checkpoint.network, "forward", other_bits)
    monkeypatch.setattr(ParallelNetwork, "_learn", learn_that_all_is_slow)
    assert not Runner(checkpoint, device=torch.device("cpu"), slots=4)._network.may_use_one


def test_one_core_computes_while_the_others_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    used: list[int] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        used.append(torch.get_num_threads())
        return clock.network(x, t)

    call = ParallelNetwork(network, 2)
    call.may_use_one = True
    for clock.call_seconds in (1.0, 1.0, 9.0, 1.0, 1.0, 1.0):  # one pause is nothing
        call(*BATCH)
    assert used == [2] * 6
    used.clear()
    for clock.call_seconds in (9.0, 9.0, CROWDED_SECONDS / 4, CROWDED_SECONDS / 4, CROWDED_SECONDS, 9.0, 9.0):
        call(*BATCH)
    # Two slow calls, one core for as long as it says, one try that is slow again, and one core at once.
    assert used == [2, 2, 1, 1, 1, 2, 1]
    used.clear()
    clock.now += CROWDED_SECONDS
    for clock.call_seconds in (1.0, 1.0, 1.0):
        call(*BATCH)
    assert used[-1] == 2


def test_neither_large_batches_nor_networks_that_round_otherwise_are_computed_on_one_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    used: list[int] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        used.append(torch.get_num_threads())
        return clock.network(x, t)

    large = [torch.zeros(LARGEST_ON_ONE + 1, 3), torch.zeros(LARGEST_ON_ONE + 1)]
    call = ParallelNetwork(network, 2)
    call.may_use_one = True
    for clock.call_seconds in (1.0, *[9.0] * 10):
        call(*large)
    assert used == [2] * 11
    used.clear()
    call.may_use_one = False
    for clock.call_seconds in (1.0, *[9.0] * 10):
        call(*BATCH)
    assert used == [2] * 11
