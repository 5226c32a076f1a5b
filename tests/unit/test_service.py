"""How the supervisor treats one child; the children here are tiny programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from difuso import service
from difuso.errors import UserError
from difuso.family import Family
from difuso.service import Service
from tests.waiting import WaitUntil


@pytest.fixture
def family() -> Iterator[Family]:
    with Family() as family:
        yield family


def make_service(family: Family, code: str, *, drain_seconds: float = 10) -> Service:
    return Service("child", lambda: family.spawn([sys.executable, "-c", code]), drain_seconds=drain_seconds)


def revive_until_given_up(child: Service) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        child.revive()
        time.sleep(0.01)


def test_a_child_that_dies_is_started_again(family: Family, tmp_path: Path, wait_until: WaitUntil) -> None:
    marks = tmp_path / "marks"
    child = make_service(family, f"open({str(marks)!r}, 'a').write('x')")
    child.start()

    def twice() -> bool:
        child.revive()
        return marks.exists() and len(marks.read_text()) == 2

    wait_until(twice, timeout=10, description="the child ran twice")


def test_a_child_that_cannot_run_is_given_up_with_its_exit_code(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_FAST_DEATHS", 2)
    child = make_service(family, "raise SystemExit(7)")
    child.start()
    with pytest.raises(UserError, match="child cannot run: exit code 7, 2 times in a row"):
        revive_until_given_up(child)


def test_a_child_gets_time_to_finish(family: Family, tmp_path: Path, wait_until: WaitUntil) -> None:
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
    child = make_service(family, code)
    child.start()
    wait_until(ready.exists, timeout=10, description="the child is ready")
    child.stop(hurried=lambda: False)
    assert done.exists()


@pytest.mark.parametrize(("drain_seconds", "hurried"), [(0.2, False), (60, True)])
def test_a_child_that_does_not_finish_is_killed(
    family: Family, tmp_path: Path, wait_until: WaitUntil, drain_seconds: float, hurried: bool
) -> None:
    """After its drain time, or at once when Ctrl-C was pressed again."""
    ready = tmp_path / "ready"
    code = "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = make_service(
        family, code + f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)", drain_seconds=drain_seconds
    )
    child.start()
    wait_until(ready.exists, timeout=10, description="the child is ready")
    started = time.monotonic()
    child.stop(hurried=lambda: hurried)
    assert time.monotonic() - started < 5
