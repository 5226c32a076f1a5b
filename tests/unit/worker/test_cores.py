"""One thread computes with all cores, and no other takes them from it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest
import torch

from difuso.worker.device.cores import all_cores, in_a_thread_that_ends, use_all_cores, use_one_core


@pytest.fixture(autouse=True)
def two_cores() -> Iterator[None]:
    """Whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    all_cores.cache_clear()
    all_cores()
    yield
    torch.set_num_threads(before)
    all_cores.cache_clear()


def test_what_other_threads_set_later_does_not_reach_the_engine() -> None:
    """Torch gives a thread, at its first loop, the number that some thread has set last."""
    begun, others = Event(), Event()
    seen: list[int] = []

    def engine() -> None:
        use_all_cores()
        begun.set()
        assert others.wait(10)
        seen.append(torch.get_num_threads())

    thread = Thread(target=engine)
    thread.start()
    assert begun.wait(10)
    with ThreadPoolExecutor(1, initializer=use_one_core) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
    others.set()
    thread.join()
    assert seen == [2]


def test_a_call_has_all_cores_whatever_its_caller_has() -> None:
    use_one_core()
    assert in_a_thread_that_ends(torch.get_num_threads) == 2
    assert torch.get_num_threads() == 1


def test_an_error_of_the_call_is_the_caller_s() -> None:
    with pytest.raises(ZeroDivisionError):
        in_a_thread_that_ends(lambda: 1 // 0)
