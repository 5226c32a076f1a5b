"""Which thread of a worker computes with all cores: that of the engine, and that of a model while it is loaded.

A thread that computes with several cores keeps a team of OpenMP threads for as long as it lives. With more teams than
cores the runtime lets them sleep between two parallel loops, and a call of a small network takes half as long again. So
all other threads compute with one core, and models are loaded in threads that end.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Result = TypeVar("Result")


@cache
def all_cores() -> int:
    """The number of cores that torch uses by default; call it before any thread changes that."""
    return torch.get_num_threads()


def use_all_cores() -> None:
    """Lets this thread compute with all cores."""
    _use(all_cores())


def use_one_core() -> None:
    """Lets this thread, and those that begin later, compute with one core, until `use_all_cores` is called."""
    all_cores()
    _use(1)


def _use(cores: int) -> None:
    torch.get_num_threads()  # at its first call a thread adopts what another thread has set last
    torch.set_num_threads(cores)


def in_a_thread_that_ends(call: Callable[[], Result]) -> Result:
    """Returns the result of a call that computes with all cores, and leaves no OpenMP threads behind."""
    with ThreadPoolExecutor(1, "loader", initializer=use_all_cores) as pool:
        return pool.submit(call).result()
