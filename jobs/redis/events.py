"""Events of jobs, published by Redis to the processes that listen.

Redis does not store events. A listener that has missed one reads the job's status instead, so every wait here also ends
after POLL_SECONDS without an event.
"""

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from weakref import WeakValueDictionary

import redis
import redis.asyncio
from pydantic import ValidationError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ..contract import JobState, Progress
from ..values import Reported
from .addresses import connect_async
from .job_records import LISTENER, WEBHOOK
from .webhooks import CALL_IN

log = logging.getLogger(__name__)

ID_LENGTH = 36  # characters of the id of a job, with which messages to a front end begin
POLL_SECONDS = 2.0
RECONNECT_SECONDS = 0.5
SUBSCRIBE_SECONDS = 2.0


def status_channel(job_id: str) -> str:
    """Returns the channel of a job that has a message whenever the job's status has changed: `{}`, or an `Ending`."""
    return f"difuso:events:{job_id}"


def listener_channel(name: str) -> str:
    """Returns the channel of a front end, for the ends of the jobs of its own requests that wait for them."""
    return f"difuso:listeners:{name}"


# Lua: announces the end of a job to all who follow it, and to the front end that waits for it, and has its webhook
# called. Every script that ends a job calls it.
ANNOUNCE = (
    CALL_IN
    + f"""
local function announce(record, id, message, answer)
  redis.call('PUBLISH', '{status_channel("")}' .. id, message)
  local listener, webhook = unpack(redis.call('HMGET', record, '{LISTENER}', '{WEBHOOK}'))
  if listener then redis.call('PUBLISH', '{listener_channel("")}' .. listener, id .. (answer or message)) end
  if webhook then call_in(id, 0) end
end
"""
)


def preview_channel(job_id: str) -> str:
    """Returns the channel of a job's unfinished images (`Preview`), which are only made while a client listens."""
    return f"difuso:previews:{job_id}"


class Message(Reported):
    """A message of a channel."""

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """Reads a message; None if it does not say this."""
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            return None


class Preview(Message):
    """An unfinished image: image `index` after `image_steps` of the job, a PNG in base64."""

    index: int
    image_steps: int
    png: str


class Ending(Message):
    """The message of a status channel when a worker has ended a job: the job's status, without the job itself.

    A client that waits for the job needs to read nothing more. Times are in seconds since the epoch. For the front end
    whose request waits for a small result, the manifest follows in a second line.
    """

    state: JobState
    started_at: float
    ended_at: float
    attempts: int
    progress: Progress
    versions: tuple[str, ...] = ()  # those that drew it


class Inbox:
    """The newest message of each channel that a listener has not taken yet."""

    def __init__(self) -> None:
        self._newest: dict[str, bytes] = {}
        self._filled = asyncio.Event()

    def put(self, channel: str, content: bytes) -> None:
        self._newest[channel] = content
        self._filled.set()

    async def get(self) -> tuple[str, bytes]:
        await self._filled.wait()
        channel = next(iter(self._newest))
        content = self._newest.pop(channel)
        if not self._newest:
            self._filled.clear()
        return channel, content


class Listener:
    """The subscription of a process, shared by all waits of one event loop.

    A request waits for its own job on a channel of the process, which stays subscribed; `name` is in the job's record.
    """

    def __init__(self, redis_url: str) -> None:
        self.name = uuid.uuid4().hex[:12]
        # Without retries: a wait must not last longer because Redis is away. Without a socket timeout: redis-py
        # implements it by asyncio.wait_for, which can lose a cancellation on Python 3.11.
        self._client = connect_async(
            redis_url, socket_connect_timeout=2, socket_timeout=None, retry=Retry(NoBackoff(), 0)
        )
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._inboxes: dict[str, set[Inbox]] = defaultdict(set)
        self._expected: WeakValueDictionary[str, Inbox] = WeakValueDictionary()  # by the id of the job
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

    def expect(self, job_id: str) -> Inbox:
        """Returns the inbox of a job that this process is about to submit; it fills as long as it is kept."""
        inbox = self._expected[job_id] = Inbox()
        return inbox

    @asynccontextmanager
    async def listen(self, *channels: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes] | None]]:
        """Yields an endless iterator of (channel, content), and of None after POLL_SECONDS without a message.

        The subscription exists when the block begins, so a status read inside the block misses no later event.
        """
        inbox = Inbox()
        for channel in channels:
            self._inboxes[channel].add(inbox)
        try:
            with suppress(redis.exceptions.RedisError, OSError):
                async with asyncio.timeout(SUBSCRIBE_SECONDS):
                    await self._pubsub.subscribe(*channels)
            yield messages(inbox)
        finally:
            for channel in channels:
                self._inboxes[channel].discard(inbox)
                if not self._inboxes[channel]:
                    del self._inboxes[channel]
                    with suppress(redis.exceptions.RedisError, OSError):
                        await self._pubsub.unsubscribe(channel)

    async def _read(self) -> None:
        """Puts messages into their inboxes, for ever; redis-py subscribes again after a reconnect."""
        own = listener_channel(self.name)
        while True:
            try:
                if own.encode() not in self._pubsub.channels:
                    await self._pubsub.subscribe(own)
                message = await self._pubsub.get_message(timeout=1.0)
            except (redis.exceptions.RedisError, OSError) as error:
                log.warning("no events because Redis does not answer: %s", type(error).__name__)
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            if message is not None:
                channel, content = message["channel"].decode(), message["data"]
                if channel == own:
                    job_id, content = content[:ID_LENGTH].decode(errors="replace"), content[ID_LENGTH:]
                    if (expected := self._expected.get(job_id)) is not None:
                        expected.put(status_channel(job_id), content)
                for inbox in self._inboxes.get(channel, ()):
                    inbox.put(channel, content)


async def messages(inbox: Inbox) -> AsyncIterator[tuple[str, bytes] | None]:
    """Yields (channel, content) for ever, and None after POLL_SECONDS without a message."""
    while True:
        message = None
        # asyncio.timeout rather than asyncio.wait_for, which can lose a cancellation on Python 3.11.
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                message = await inbox.get()
        yield message
