"""How the supervisor treats one child; the children here are tiny programs."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from difuso.errors import UserError
from difuso.supervisor import service
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.service import Service, stop
from difuso.worker.queue import recovery
from tests.waiting import wait_until


@pytest.fixture
def children() -> Iterator[ChildProcesses]:
    with ChildProcesses() as children:
        yield children


def make_service(children: ChildProcesses, code: str, *, drain_seconds: float = 10) -> Service:
    return Service("child", lambda: children.spawn([sys.executable, "-c", code]), drain_seconds=drain_seconds)


def revive_until_given_up(child: Service) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        child.revive()
        time.sleep(0.01)


def test_a_child_that_dies_is_started_again(children: ChildProcesses, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    child = make_service(children, f"open({str(marks)!r}, 'a').write('x')")
    child.start()

    def twice() -> bool:
        child.revive()
        return marks.exists() and len(marks.read_text()) == 2

    wait_until(twice, timeout=10, description="the child ran twice")


def test_a_child_that_cannot_run_is_given_up_with_its_exit_code(
    children: ChildProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_FAST_DEATHS", 2)
    child = make_service(children, "raise SystemExit(7)")
    child.start()
    with pytest.raises(UserError, match="child cannot run: exit code 7, 2 times in a row"):
        revive_until_given_up(child)


def test_a_job_that_kills_its_worker_again_and_again_does_not_end_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new process waits until the job of the last one is given up, and dies of it; the job fails in the end."""
    now = [1000.0]
    monkeypatch.setattr("difuso.supervisor.service.time.monotonic", lambda: now[0])
    dead = SimpleNamespace(pid=1, returncode=-9, poll=lambda: -9)
    child = Service("worker", lambda: cast(Any, dead), drain_seconds=10)
    child.start()
    for _ in range(10):
        now[0] += recovery.SILENT_SECONDS + 2.5
        child.revive()  # it has died
        now[0] += 10
        child.revive()  # it is started again


def test_the_others_go_on_without_a_child_that_is_not_needed(
    children: ChildProcesses, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "MAX_FAST_DEATHS", 2)
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    child = Service("child", lambda: children.spawn(command), drain_seconds=10, needed=False)
    child.start()

    def given_up() -> bool:
        child.revive()
        return "child cannot run: exit code 7, 2 times in a row; see its log above. Going on without it" in caplog.text

    wait_until(given_up, timeout=10, description="it is given up")
    child.revive()
    stop([child], hurried=lambda: False)


def test_a_child_gets_time_to_finish(children: ChildProcesses, tmp_path: Path) -> None:
    ready, done = tmp_path / "ready", tmp_path / "done"
    code = f"""
import pathlib, signal, sys, time
def finish(*_):
    time.sleep(0.3)
    pathlib.Path({str(done)!r}).touch()
    sys.exit()
signal.signal(signal.SIGTERM, finish)
pathlib.Path({str(ready)!r}).touch()
time.sleep(60)
"""
    child = make_service(children, code)
    child.start()
    wait_until(ready.exists, timeout=10, description="the child is ready")
    stop([child], hurried=lambda: False)
    assert done.exists()


@pytest.mark.parametrize(("drain_seconds", "hurried"), [(0.2, False), (3600, True)])
def test_a_child_that_does_not_finish_is_killed(
    children: ChildProcesses,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    drain_seconds: float,
    hurried: bool,
) -> None:
    """After its drain time, or at once when Ctrl-C was pressed again."""
    ready = tmp_path / "ready"
    code = "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = make_service(
        children, code + f"pathlib.Path({str(ready)!r}).touch(); time.sleep(3600)", drain_seconds=drain_seconds
    )
    child.start()
    wait_until(ready.exists, timeout=10, description="the child is ready")
    stop([child], hurried=lambda: hurried)
    assert "child has not finished: killed" in caplog.text


def test_services_are_asked_to_finish_at_the_same_time(children: ChildProcesses, tmp_path: Path) -> None:
    """Each of the two ends only after the other was asked too."""

    def waiting_for(own: str, other: str) -> Service:
        code = f"""
import pathlib, signal, sys, time
folder = pathlib.Path({str(tmp_path)!r})
def finish(*_):
    (folder / "{own} asked").touch()
    while not (folder / "{other} asked").exists():
        time.sleep(0.01)
    (folder / "{own} done").touch()
    sys.exit()
signal.signal(signal.SIGTERM, finish)
(folder / "{own} ready").touch()
time.sleep(60)
"""
        return make_service(children, code)

    pair = [waiting_for("a", "b"), waiting_for("b", "a")]
    for child in pair:
        child.start()
    wait_until(lambda: len([*tmp_path.glob("* ready")]) == 2, timeout=10, description="both are ready")
    stop(pair, hurried=lambda: False)
    assert len([*tmp_path.glob("* done")]) == 2


def test_the_folder_of_the_children_is_locked_for_those_who_clean_up(children: ChildProcesses) -> None:
    """As tmpfiles.d(5) asks of whoever keeps files in a temporary folder for long."""
    folder = os.open(children.folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds processes to processors")
def test_a_child_is_bound_to_its_processors_and_its_parent_is_not(children: ChildProcesses) -> None:
    before = os.sched_getaffinity(0)
    one = max(before)
    bound = f"import os, sys; sys.exit(os.sched_getaffinity(0) != {{{one}}})"
    assert children.spawn([sys.executable, "-c", bound], processors={one}).wait(10) == 0
    assert os.sched_getaffinity(0) == before
