"""Workers that have a core each, and lend it to one that has work alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from worker import neighbours
from worker.neighbours import Neighbours, OwnCore


@pytest.fixture
def cores(tmp_path: Path) -> list[Path]:
    files = [tmp_path / str(core) for core in range(3)]
    for file in files:
        file.touch()
    return files


def test_a_worker_without_neighbours_has_all_cores_at_any_time() -> None:
    core, others = OwnCore(None), Neighbours()
    core.take()
    with others.at_rest() as all_free:
        assert all_free
    assert len(others) == 0
    core.leave()


def test_cores_are_borrowed_only_while_no_neighbour_has_work(cores: list[Path]) -> None:
    mine, last, others = OwnCore(cores[0]), OwnCore(cores[2]), Neighbours(cores[0])
    assert len(others) == 2
    mine.take()
    last.take()
    with others.at_rest() as all_free:
        assert not all_free
        OwnCore(cores[1]).take()  # what is of no use is not kept
    last.leave()
    last.leave()
    with others.at_rest() as all_free:
        assert all_free


def test_who_gets_work_waits_for_the_call_that_has_borrowed_its_core(cores: list[Path]) -> None:
    taken: list[str] = []
    core = OwnCore(cores[1])

    def take() -> None:
        core.take()
        taken.append("core")

    waiting = Thread(target=take)
    with Neighbours(cores[0]).at_rest() as all_free:
        assert all_free
        waiting.start()
        waiting.join(0.2)
        taken.append("call")
    waiting.join(10)
    assert taken == ["call", "core"]
    with Neighbours(cores[0]).at_rest() as all_free:
        assert not all_free


def test_nobody_waits_for_long_for_a_neighbour_that_is_frozen(
    cores: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "PATIENCE_SECONDS", 0.01)
    core = OwnCore(cores[1])
    with Neighbours(cores[0]).at_rest():
        core.take()
        core.take()
        core.leave()  # of what it never had
        with Neighbours(cores[2]).at_rest() as all_free:
            assert not all_free


def test_a_call_that_fails_gives_the_cores_back(cores: list[Path]) -> None:
    with pytest.raises(BlockingIOError), Neighbours(cores[0]).at_rest():
        raise BlockingIOError
    with Neighbours(cores[1]).at_rest() as all_free:
        assert all_free


def test_the_core_of_a_worker_that_is_killed_is_free(cores: list[Path]) -> None:
    program = f"from pathlib import Path; from worker.neighbours import OwnCore; c = OwnCore(Path({str(cores[1])!r}))"
    command = [sys.executable, "-c", f"{program}; c.take(); print('taken', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        with Neighbours(cores[0]).at_rest() as all_free:
            assert not all_free
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(10)
        with Neighbours(cores[0]).at_rest() as all_free:
            assert all_free
