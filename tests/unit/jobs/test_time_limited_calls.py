"""Calls that hang are given up, and cannot use up everything."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import pytest

from difuso.jobs.store.time_limited_calls import TimeLimitedCalls


@pytest.fixture
def stuck() -> Iterator[Event]:
    """What hanging calls wait for."""
    event = Event()
    yield event
    event.set()


def test_a_call_gives_what_its_function_gives() -> None:
    calls = TimeLimitedCalls(1)
    for _ in range(3):
        assert calls.call(lambda: 7, 10) == 7
        with pytest.raises(ZeroDivisionError):
            calls.call(lambda: 1 // 0, 10)


def test_calls_that_hang_take_so_many_threads_and_no_more(stuck: Event) -> None:
    calls = TimeLimitedCalls(2)
    begun: list[None] = []

    def hang() -> bool:
        begun.append(None)
        return stuck.wait()

    for _ in range(5):
        with pytest.raises(TimeoutError):
            calls.call(hang, 0.1)
    assert len(begun) == 2
    stuck.set()
    assert calls.call(lambda: 7, 10) == 7


def test_a_call_for_which_no_thread_starts_takes_none_from_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = TimeLimitedCalls(1)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                calls.call(lambda: 7, 0.1)
    assert calls.call(lambda: 7, 10) == 7
