"""Events of a job, pushed to whoever listens.

Redis publishes them and forgets them: an event is news, not a record. A listener that missed one reads the job's
status, which is why every wait here also wakes up by itself now and then.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
RECONNECT_SECONDS = 0.5
SUBSCRIBE_SECONDS = 2.0
KEEP_CHANNEL = "difuso:events"  # nobody publishes here; it keeps the subscription alive while nobody waits


def status_channel(job_id: str) -> str:
    """Carries an empty object whenever the job's status has changed."""
    return f"difuso:events:{job_id}"


def preview_channel(job_id: str) -> str:
    """Carries {"index", "image_steps", "png"} (base64) of pictures on their way; made only while somebody listens."""
    return f"difuso:previews:{job_id}"


class Listener:
    """One subscription per process, shared by all that wait for jobs; lives in one event loop."""

    def __init__(self, redis_url: str) -> None:
        # Without retries of its own: a wait must not last longer because Redis is away. And without a socket timeout,
        # which redis-py makes of asyncio.wait_for: on Python 3.11 that forgets a cancellation now and then.
        self._client = redis.asyncio.Redis.from_url(
            redis_url, socket_connect_timeout=2, socket_timeout=None, retry=Retry(NoBackoff(), 0)
        )
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._queues: dict[str, set[asyncio.Queue[Any]]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        await self._client.aclose()

    @asynccontextmanager
    async def listen(self, *channels: str) -> AsyncIterator[AsyncIterator[tuple[str, Any] | None]]:
        """Yields an endless iterator of (channel, message), and of None at least every POLL_SECONDS.

        It has subscribed when the block begins, so that a status read inside misses nothing that happens after.
        """
        inbox: asyncio.Queue[Any] = asyncio.Queue()
        for channel in channels:
            self._queues[channel].add(inbox)
        try:
            with suppress(redis.exceptions.RedisError, OSError):
                async with asyncio.timeout(SUBSCRIBE_SECONDS):
                    await self._pubsub.subscribe(*channels)
            yield _messages(inbox)
        finally:
            for channel in channels:
                self._queues[channel].discard(inbox)
                if not self._queues[channel]:
                    del self._queues[channel]
                    with suppress(redis.exceptions.RedisError, OSError):
                        await self._pubsub.unsubscribe(channel)

    async def _read(self) -> None:
        """Hands messages to their inboxes, for ever; redis-py subscribes again after a reconnect."""
        while True:
            try:
                if not self._pubsub.subscribed:
                    await self._pubsub.subscribe(KEEP_CHANNEL)
                message = await self._pubsub.get_message(timeout=1.0)
            except (redis.exceptions.RedisError, OSError) as error:
                log.warning("no events while Redis is away: %s", type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            if message is not None:
                channel = message["channel"].decode()
                try:
                    content = json.loads(message["data"])
                except ValueError:
                    log.warning("no JSON on %s", channel)
                    continue
                for inbox in self._queues.get(channel, ()):
                    inbox.put_nowait((channel, content))


async def _messages(inbox: asyncio.Queue[Any]) -> AsyncIterator[tuple[str, Any] | None]:
    while True:
        message = None
        # asyncio.timeout rather than wait_for, for the same reason as above.
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                message = await inbox.get()
        yield message
