"""One thread computes with all cores; two workers that have a core each lend it to the one that has work alone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest
import torch

from difuso.worker.device.cores import (
    PATIENCE_SECONDS,
    Core,
    all_cores,
    core_of,
    neighbour_of,
    use_all_cores,
    use_one_core,
)
from tests.waiting import wait_until


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the worker whose core is lent."""
    return tmp_path / "worker.1"


def is_lent(folder: Path) -> bool:
    with Core(folder).borrowed() as lent:
        return lent


def can_lock(file: int) -> bool:
    """Whether nobody holds the lock of a file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def test_a_worker_without_a_neighbour_has_all_cores_at_any_time() -> None:
    core, nobody = Core(None), Core(None)
    core.take()
    with nobody.borrowed() as lent:
        assert lent
    assert not nobody.exists
    core.leave()


def test_a_core_is_lent_while_its_worker_has_no_work(folder: Path) -> None:
    core = Core(folder)
    assert is_lent(folder)
    core.take()
    assert not is_lent(folder)
    core.leave()
    assert is_lent(folder)


def test_a_core_is_lent_only_when_the_last_of_its_holders_has_left_it(folder: Path) -> None:
    core = Core(folder)
    core.take()
    core.take()  # a model is loaded while jobs run
    core.leave()
    assert not is_lent(folder)
    core.leave()
    assert is_lent(folder)


def test_who_gets_work_waits_for_one_call_of_a_neighbour_that_calls_again_and_again(folder: Path) -> None:
    core, neighbour, has_work = Core(folder), Core(folder), Event()
    probe, lent = os.open(folder / "work", os.O_RDWR), []

    def work() -> None:
        core.take()
        has_work.set()

    waiting = Thread(target=work)
    with neighbour.borrowed() as first:
        waiting.start()
        wait_until(lambda: not can_lock(probe), 10, "it has said that it has work")
        assert first
        assert not has_work.is_set()
    for _ in range(1000):  # at once again, without a pause in which the other could come first
        with neighbour.borrowed() as again:
            lent.append(again)
    assert not any(lent)
    waiting.join(10)
    assert has_work.is_set()
    os.close(probe)


def test_nobody_waits_for_long_for_a_neighbour_that_is_frozen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core, frozen = Core(folder), Core(folder)
    core._patience = 0.01
    with frozen.borrowed():
        core.take()
        assert not is_lent(folder)
        core.leave()
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits again"))
        core.take()
        core.leave()
    core.take()
    assert core._patience == PATIENCE_SECONDS


def test_a_call_that_fails_gives_the_core_back(folder: Path) -> None:
    with pytest.raises(BlockingIOError), Core(folder).borrowed():
        raise BlockingIOError
    assert is_lent(folder)


def test_the_core_of_a_worker_that_is_killed_is_free(folder: Path) -> None:
    program = f"""
from pathlib import Path
from difuso.worker.device.cores import Core
core = Core(Path({str(folder)!r}))
core.take()
print('taken', flush=True)
input()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        assert not is_lent(folder)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(10)
        assert is_lent(folder)


def test_two_workers_are_each_other_s_neighbours(tmp_path: Path) -> None:
    first, second = (tmp_path / f"worker.{core}" for core in (0, 1))
    core_of(first).take()
    for mine, lent in ((first, True), (second, False)):
        with neighbour_of(mine).borrowed() as found:
            assert found is lent
    assert core_of(first) is core_of(first)
    core_of(first).leave()
