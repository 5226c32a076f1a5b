"""Two workers that have a core each, and lend it to the one that has work alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from difuso.worker.device import core_lending
from difuso.worker.device.core_lending import Neighbour, OwnCore, neighbour_of, own_core
from tests.waiting import WaitUntil


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the worker whose core is lent."""
    return tmp_path / "worker.1"


def is_lent(folder: Path) -> bool:
    with Neighbour(folder).at_rest() as lent:
        return lent


def test_a_worker_without_a_neighbour_has_all_cores_at_any_time() -> None:
    core, nobody = OwnCore(None), Neighbour()
    core.take()
    with nobody.at_rest() as lent:
        assert lent
    assert not nobody.exists
    core.leave()


def test_a_core_is_lent_while_its_worker_has_no_work(folder: Path) -> None:
    core = OwnCore(folder)
    assert is_lent(folder)
    core.take()
    assert not is_lent(folder)
    core.leave()
    assert is_lent(folder)


def test_a_core_is_lent_only_when_the_last_of_its_holders_has_left_it(folder: Path) -> None:
    core = OwnCore(folder)
    core.take()
    core.take()  # a model is loaded while jobs run
    core.leave()
    assert not is_lent(folder)
    core.leave()
    assert is_lent(folder)


def test_who_gets_work_waits_for_one_call_of_a_neighbour_that_calls_again_and_again(
    folder: Path, wait_until: WaitUntil
) -> None:
    core, neighbour, has_work = OwnCore(folder), Neighbour(folder), Event()
    probe, lent = os.open(folder / "work", os.O_RDWR), []

    def work() -> None:
        core.take()
        has_work.set()

    waiting = Thread(target=work)
    with neighbour.at_rest() as first:
        waiting.start()
        wait_until(lambda: not core_lending._lock(probe, for_a_moment=True), 10, "it has said that it has work")
        assert first
        assert not has_work.is_set()
    for _ in range(1000):  # at once again, without a pause in which the other could come first
        with neighbour.at_rest() as again:
            lent.append(again)
    assert not any(lent)
    waiting.join(10)
    assert has_work.is_set()
    os.close(probe)


def test_nobody_waits_for_long_for_a_neighbour_that_is_frozen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core, frozen = OwnCore(folder), Neighbour(folder)
    core._patience = 0.01
    with frozen.at_rest():
        core.take()
        assert not is_lent(folder)
        core.leave()
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits again"))
        core.take()
        core.leave()
    core.take()
    assert core._patience == core_lending.PATIENCE_SECONDS


def test_a_call_that_fails_gives_the_core_back(folder: Path) -> None:
    with pytest.raises(BlockingIOError), Neighbour(folder).at_rest():
        raise BlockingIOError
    assert is_lent(folder)


def test_the_core_of_a_worker_that_is_killed_is_free(folder: Path) -> None:
    program = f"""
from pathlib import Path
from difuso.worker.device.core_lending import OwnCore
core = OwnCore(Path({str(folder)!r}))
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
    own_core(first).take()
    for mine, lent in ((first, True), (second, False)):
        with neighbour_of(mine).at_rest() as found:
            assert found is lent
    assert own_core(first) is own_core(first)
    own_core(first).leave()
