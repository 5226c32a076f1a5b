"""How many lists of jobs are made at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from anyio import CapacityLimiter

from difuso.app.errors import Overloaded
from difuso.app.routers.jobs import MAX_WAITING, JobsQuery, list_jobs
from difuso.jobs.redis.index import Page


def test_few_lists_are_made_at_once_and_not_too_many_wait() -> None:
    begun, go = [], threading.Event()

    def page(*args: Any, **kwargs: Any) -> Page:
        begun.append(1)
        go.wait(10)
        return Page([], None)

    async def scenario() -> None:
        threads = CapacityLimiter(2)
        process = cast("Any", SimpleNamespace(listers=threads, queue=SimpleNamespace(page=page)))
        asked = [asyncio.create_task(list_jobs(JobsQuery(), process, None)) for _ in range(2 + MAX_WAITING)]
        await _until(lambda: len(begun) == 2 and threads.statistics().tasks_waiting == MAX_WAITING)
        with pytest.raises(Overloaded) as caught:
            await list_jobs(JobsQuery(), process, None)
        assert caught.value.retry_after
        assert len(begun) == 2
        go.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}

    asyncio.run(scenario())


async def _until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not predicate():
            await asyncio.sleep(0)
