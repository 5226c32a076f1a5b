"""How the supervisor treats one child; the children here are tiny programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from difuso.errors import UserError
from difuso.supervisor import service
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.service import Service
from tests.waiting import WaitUntil


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


def test_a_child_that_dies_is_started_again(children: ChildProcesses, tmp_path: Path, wait_until: WaitUntil) -> None:
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


def test_a_child_gets_time_to_finish(children: ChildProcesses, tmp_path: Path, wait_until: WaitUntil) -> None:
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
    child.stop(hurried=lambda: False)
    assert done.exists()


@pytest.mark.parametrize(("drain_seconds", "hurried"), [(0.2, False), (60, True)])
def test_a_child_that_does_not_finish_is_killed(
    children: ChildProcesses, tmp_path: Path, wait_until: WaitUntil, drain_seconds: float, hurried: bool
) -> None:
    """After its drain time, or at once when Ctrl-C was pressed again."""
    ready = tmp_path / "ready"
    code = "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = make_service(
        children, code + f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)", drain_seconds=drain_seconds
    )
    child.start()
    wait_until(ready.exists, timeout=10, description="the child is ready")
    started = time.monotonic()
    child.stop(hurried=lambda: hurried)
    assert time.monotonic() - started < 5
