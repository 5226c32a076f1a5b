"""Waiting for jobs, and following them, without a thread for each: one subscription per process wakes all waiters.

Those of one job share what they read, and event streams the text of each event. So hundreds of clients of a job ask
Redis as much as one.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi.sse import ServerSentEvent
from redis import RedisError
from starlette.types import Receive

from difuso.jobs.redis.events import Ending, Inbox, Listener, Preview, messages, preview_channel, status_channel
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.status import JobStatus

from ..errors import Unauthorized
from ..http.api_keys import KEYS_LOOK_SECONDS, ApiKey, KeyRing
from ..http.metrics import Metrics
from .views import Outlook, job_text

# Threads in which waiters read. While Redis hangs, reads take seconds, and new requests need threads, too.
WATCH_THREADS = 4
# The numbers in the vectors of all jobs that requests wait for: 64 bytes each, as the job that a request made and the
# one that it has read. All other jobs are small.
MAX_NUMBERS = 1_000_000
PROGRESS = "progress"  # the name of the events of a job that has not ended
RECONNECT_MILLISECONDS = 3000  # after which an EventSource connects again

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed its connection before it was answered."""


class Event(NamedTuple):
    """An event of a job, as all streams send it."""

    name: str
    data: str
    id: str | None  # what a client knows after it; None if it knows no more than before


class Watcher:
    """Follows jobs in one event loop, until `draining` is set because this process is about to end.

    Nobody follows on with a key that is not among `keys` any more; these are None if the server has no keys.
    """

    def __init__(
        self, queue: JobQueue, listener: Listener, draining: asyncio.Event, metrics: Metrics, keys: KeyRing | None
    ) -> None:
        self._queue = queue
        self._listener = listener
        self._draining = draining
        self._metrics = metrics
        self._keys = keys
        self._threads = CapacityLimiter(WATCH_THREADS)
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}  # the reads that have not begun
        self._numbers = 0  # see MAX_NUMBERS
        self._drained: asyncio.Task[Any] | None = None  # ends when `draining` is set; all waits share it

    def follow(self, job_id: str, key: ApiKey | None) -> AsyncGenerator[Event, None]:
        """Follows a job; its unfinished images come in between. The last event has it as the owner of the key sees it.

        Raises JobNotFound if the job is unknown or was forgotten meanwhile.
        """
        return self.follow_by(lambda: _event(self._queue.status(job_id), key), job_id, key)

    async def follow_by(
        self, read: Callable[[], Event], job_id: str, key: ApiKey | None
    ) -> AsyncGenerator[Event, None]:
        """Yields what `read` says at once, at every event and every few seconds, until it is no progress.

        It also ends with this process, or when the key is withdrawn. While the queue does not answer, the wait
        continues, because the job, or training, was accepted.
        """
        async with self._listener.listen(status_channel(job_id), preview_channel(job_id)) as news:
            while not self._draining.is_set() and self._is_valid(key):
                event = await self._share((job_id, key and key.sha256), read)
                if event is not None:
                    yield event
                    if event.name != PROGRESS:
                        return
                while (heard := await anext(news)) is not None and heard[0] == preview_channel(job_id):
                    if (preview := Preview.read(heard[1])) is not None:
                        yield Event("preview", preview.model_dump_json(), None)

    async def wait(
        self,
        status: JobStatus,
        receive: Receive,
        key: ApiKey | None,
        *,
        seconds: float,
        inbox: Inbox | None = None,
        until: Callable[[JobStatus], bool] | None = None,
        timesteps: bool = False,
    ) -> JobStatus:
        """Returns the job's last status when the job has ended, the time is over or this process is about to end.

        A job with long vectors is not waited for while others take as much memory as there is for them (MAX_NUMBERS).

        Args:
            status: the status of the job at the moment.
            receive: returns the next message of the client's connection.
            key: the API key of the request; None if the server has no keys.
            inbox: where the listener puts the end of the job, if this process has submitted it for this request.
            until: returns whether a status ends the wait before the job ends; None waits for the end only.
            timesteps: whether a status has the timesteps of the job, if `until` is given.

        Raises:
            ClientGone: if the client closed its connection.
            JobNotFound: like `follow`.
            Unauthorized: if the API key of the request is withdrawn.
        """
        latest, numbers = [status], status.job.params.vector_numbers
        is_too_much = numbers > 0 and self._numbers + numbers > MAX_NUMBERS
        if status.state.is_terminal or is_too_much or (until is not None and until(status)):
            return status
        self._numbers += numbers
        hearing = self._hear(latest, until, timesteps=timesteps) if inbox is None else self._hear_end(latest, inbox)
        ended = asyncio.create_task(hearing)
        gone = asyncio.create_task(_disconnected(receive))
        draining = self._drained = self._drained or asyncio.create_task(self._draining.wait())
        withdrawn = None if key is None else asyncio.create_task(self._withdrawn(key))
        tasks: list[asyncio.Task[Any]] = [ended, gone, *([] if withdrawn is None else [withdrawn])]
        try:
            await asyncio.wait([*tasks, draining], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
                return latest[0]
            if gone.done():
                raise ClientGone
            if withdrawn is not None and withdrawn.done():
                raise Unauthorized
        finally:
            self._numbers -= numbers
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return await self._read(status.job.id, timesteps=timesteps) or latest[0]

    async def _hear(
        self, latest: list[JobStatus], until: Callable[[JobStatus], bool] | None, *, timesteps: bool
    ) -> None:
        """Returns when the job has ended or `until` accepts its status, with its last status in `latest`.

        The message that announces the end holds the status. So without `until` a job is read only when the wait begins,
        and whenever nothing was heard for some seconds.
        """
        job = latest[0].job
        async with self._listener.listen(status_channel(job.id)) as news:
            heard = None
            while True:
                if heard is None or until is not None:
                    read = self._read(job.id, outlook=until is not None, timesteps=timesteps)
                    latest[0] = await read or latest[0]
                elif (ending := Ending.read(heard[1])) is not None:
                    latest[0] = self._queue.status_at_end(latest[0], ending)
                if latest[0].state.is_terminal or (until is not None and until(latest[0])):
                    return
                heard = await anext(news)

    async def _hear_end(self, latest: list[JobStatus], inbox: Inbox) -> None:
        """Returns when the job of a request of this process has ended, with its last status in `latest`.

        It is read when another than a worker has ended it, and whenever nothing was heard for some seconds.
        """
        job = latest[0].job
        async for heard in messages(inbox):
            line, _, manifest = (heard[1] if heard else b"").partition(b"\n")
            if (ending := Ending.read(line)) is not None:
                latest[0] = self._queue.status_at_end(latest[0], ending, manifest or None)
            else:
                latest[0] = await self._read(job.id, outlook=False) or latest[0]
            if latest[0].state.is_terminal:
                return

    async def _read(self, job_id: str, *, outlook: bool = True, timesteps: bool = False) -> JobStatus | None:
        read = partial(self._queue.status, job_id, outlook=outlook, timesteps=timesteps)
        return await self._share((job_id, outlook, timesteps), read)

    async def _share(self, what: Hashable, read: Callable[[], T]) -> T | None:
        """Returns what `read` does, in a thread; None while the queue does not answer.

        All who ask for the same before the read begins get its answer. Whoever asks later may have heard of more.
        """

        def begin() -> T:
            del self._asked[what]
            return read()

        reading = self._asked.get(what)
        if reading is None:
            reading = self._asked[what] = asyncio.create_task(to_thread.run_sync(begin, limiter=self._threads))
        try:
            return await asyncio.shield(reading)
        except RedisError:
            self._metrics.redis_errors.labels("watch").inc()
            return None

    async def _withdrawn(self, key: ApiKey | None) -> None:
        while self._is_valid(key):
            await asyncio.sleep(KEYS_LOOK_SECONDS)

    def _is_valid(self, key: ApiKey | None) -> bool:
        return key is None or self._keys is None or self._keys.holds(key)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def is_delivered(status: JobStatus, last_event_id: str | None) -> bool:
    """Returns whether a client has received the final event of a job."""
    return status.state.is_terminal and last_event_id == status.state


async def job_events(news: AsyncIterator[Event], last_event_id: str | None) -> AsyncIterator[ServerSentEvent]:
    """Yields `progress` at each change, `preview` with unfinished images, and at the end the job, named by its state.

    An id says what a client knows after the event. So an EventSource that connects again with it gets only later ones.
    """
    known = last_event_id
    async for name, data, id in news:
        if name == PROGRESS and id == known:
            continue
        known = id or known
        yield ServerSentEvent(event=name, raw_data=data, id=known, retry=RECONNECT_MILLISECONDS)


def _event(status: JobStatus, key: ApiKey | None) -> Event:
    if status.state.is_terminal:
        return Event(status.state.value, job_text(status, key), status.state.value)
    return progress_event(Outlook.of(status).model_dump_json(exclude_none=True))


def progress_event(data: str) -> Event:
    """Returns the event of a job, or a training, that has not ended; equal data have the same id."""
    return Event(PROGRESS, data, hashlib.sha256(data.encode()).hexdigest()[:16])
