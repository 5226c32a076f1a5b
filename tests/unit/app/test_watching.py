"""What the clients of one job share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

from prometheus_client import CollectorRegistry

from difuso.app.http.metrics import Metrics
from difuso.app.requests.watching import Event, Watcher, job_events


def watcher() -> Watcher:
    nothing = cast("Any", None)
    return Watcher(nothing, nothing, asyncio.Event(), Metrics(CollectorRegistry()), None)


def test_all_who_ask_at_once_share_one_read() -> None:
    reads: list[int] = []

    def read() -> int:
        reads.append(len(reads))
        return len(reads)

    async def ask(times: int) -> list[int | None]:
        asked = watcher()
        return await asyncio.gather(*[asked._share("a job", read) for _ in range(times)])

    assert asyncio.run(ask(800)) == 800 * [1]


def test_whoever_asks_after_a_read_has_begun_gets_a_later_one() -> None:
    """It may have heard of an event that the read has missed."""
    answers = iter(["before the event", "after it"])
    begun, go = threading.Event(), threading.Event()

    def read() -> str:
        answer = next(answers)
        begun.set()
        go.wait(10)
        return answer

    async def scenario() -> tuple[str | None, str | None]:
        asked = watcher()
        early = asyncio.create_task(asked._share("a job", read))
        await asyncio.to_thread(begun.wait, 10)
        late = asyncio.create_task(asked._share("a job", read))
        go.set()
        return await early, await late

    assert asyncio.run(scenario()) == ("before the event", "after it")


def test_one_who_stops_asking_leaves_the_others_their_answer() -> None:
    async def scenario() -> int | None:
        asked = watcher()
        gone, patient = (asyncio.create_task(asked._share("a job", lambda: 7)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        return await patient

    assert asyncio.run(scenario()) == 7


def test_a_stream_sends_what_its_client_does_not_know() -> None:
    async def news() -> AsyncIterator[Event]:
        for event in (
            Event("progress", "1", "a"),
            Event("preview", "2", None),
            Event("progress", "1", "a"),
            Event("progress", "3", "b"),
            Event("succeeded", "4", "succeeded"),
        ):
            yield event

    async def sent(last_event_id: str | None) -> list[tuple[str | None, str | None, str | None]]:
        return [(event.event, event.raw_data, event.id) async for event in job_events(news(), last_event_id)]

    rest = [("preview", "2", "a"), ("progress", "3", "b"), ("succeeded", "4", "succeeded")]
    assert asyncio.run(sent(None)) == [("progress", "1", "a"), *rest]
    assert asyncio.run(sent("a")) == rest
