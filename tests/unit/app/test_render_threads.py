from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from difuso.app import store_access
from difuso.app.errors import Overloaded
from difuso.app.store_access import RENDERERS, Renderers
from difuso.jobs.errors import ResultExpired, StoreUnavailable

READERS = 4


def test_few_render_at_once_and_not_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_access, "MAX_WAITING", 3)
    rendering_now, most = 0, 0
    go_on, lock = threading.Event(), threading.Lock()

    def render() -> str:
        nonlocal rendering_now, most
        with lock:
            rendering_now += 1
            most = max(most, rendering_now)
        go_on.wait(10)
        with lock:
            rendering_now -= 1
        return "done"

    async def ask() -> list[str | BaseException]:
        renderers = Renderers(READERS)
        asked = [asyncio.create_task(renderers.run(render)) for _ in range(RENDERERS + 3)]
        while not most:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await renderers.run(render)
        go_on.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    assert asyncio.run(ask()) == ["done"] * (RENDERERS + 3)
    assert most == RENDERERS


def test_while_a_store_hangs_nobody_waits_behind_others_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, hang = 0, threading.Event()

    def read() -> str:
        nonlocal calls
        calls += 1
        hang.wait(10)
        raise StoreUnavailable("no answer")

    async def ask() -> list[str | BaseException]:
        renderers = Renderers(READERS)
        asked = [asyncio.create_task(renderers.read(read)) for _ in range(50)]
        while calls < READERS:
            await asyncio.sleep(0)
        hang.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    assert {type(answer) for answer in asyncio.run(ask())} == {StoreUnavailable}
    assert calls == READERS

    def read_expired() -> str:
        raise ResultExpired

    async def ask_again(answer: Callable[[], str], error: type[Exception] | None) -> str:
        renderers = Renderers(READERS)
        with pytest.raises(StoreUnavailable):
            await renderers.read(read)
        monkeypatch.setattr(store_access, "PAUSE_SECONDS", 60)  # one looks whether it is back
        for expected in (error, None):
            with nullcontext() if expected is None else pytest.raises(expected):
                await renderers.read(answer if expected is error else lambda: "read")
        return await renderers.read(lambda: "read")

    for answer, error in ((read_expired, ResultExpired), (lambda: "read", None)):
        monkeypatch.setattr(store_access, "PAUSE_SECONDS", 0)
        assert asyncio.run(ask_again(answer, error)) == "read"
