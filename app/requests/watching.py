"""Waiting for jobs, and following them, without a thread for each: one subscription per process wakes all waiters."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi.sse import ServerSentEvent
from redis import RedisError
from starlette.requests import Request

from jobs.contract import JobStatus
from jobs.redis.events import Ending, Listener, Preview, preview_channel, status_channel
from jobs.redis.queue import JobQueue

from ..errors import Unauthorized
from ..http.api_keys import KEYS_LOOK_SECONDS, ApiKey, KeyRing
from ..http.metrics import Metrics
from .views import Outlook, job_text

# Threads in which waiters read. While Redis hangs, reads take seconds, and new requests need threads, too.
WATCH_THREADS = 4
RECONNECT_MILLISECONDS = 3000  # after which an EventSource connects again


class ClientGone(Exception):
    """The client closed its connection before it was answered."""


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

    async def follow(self, job_id: str, key: ApiKey | None) -> AsyncGenerator[JobStatus | Preview, None]:
        """Yields the job's status at once, at every event and every few seconds.

        It ends with the job, with this process, and when the caller's key is withdrawn.

        Its unfinished images come in between. While the queue does not answer, the wait continues, because the job was
        accepted.

        Raises JobNotFound if the job is unknown or was forgotten meanwhile.
        """
        async with self._listener.listen(status_channel(job_id), preview_channel(job_id)) as news:
            while not self._draining.is_set() and self._is_valid(key):
                status = await self._read(job_id)
                if status is not None:
                    yield status
                    if status.state.is_terminal:
                        return
                while (event := await anext(news)) is not None and event[0] == preview_channel(job_id):
                    preview = Preview.read(event[1])
                    if preview is not None:
                        yield preview

    async def wait(
        self,
        status: JobStatus,
        request: Request,
        *,
        seconds: float,
        until: Callable[[JobStatus], bool] | None = None,
        timesteps: bool = False,
    ) -> JobStatus:
        """Returns the job's last status when the job has ended, the time is over or this process is about to end.

        Args:
            status: the status of the job at the moment.
            until: returns whether a status ends the wait before the job ends; None waits for the end only.
            timesteps: whether a status has the timesteps of the job, if `until` is given.

        Raises:
            ClientGone: if the client closed its connection.
            JobNotFound: like `follow`.
            Unauthorized: if the API key of the request is withdrawn.
        """
        latest = [status]
        if status.state.is_terminal or (until is not None and until(status)):
            return status
        ended = asyncio.create_task(self._hear(latest, until, timesteps=timesteps))
        gone = asyncio.create_task(_disconnected(request))
        draining = asyncio.create_task(self._draining.wait())
        withdrawn = asyncio.create_task(self._withdrawn(request.state.caller))
        tasks: list[asyncio.Task[Any]] = [ended, gone, draining, withdrawn]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
                return latest[0]
            if gone.done():
                raise ClientGone
            if withdrawn.done():
                raise Unauthorized
        finally:
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
                    latest[0] = self._queue.status_at_end(job, ending)
                if latest[0].state.is_terminal or (until is not None and until(latest[0])):
                    return
                heard = await anext(news)

    async def _read(self, job_id: str, *, outlook: bool = True, timesteps: bool = False) -> JobStatus | None:
        read = partial(self._queue.status, job_id, outlook=outlook, timesteps=timesteps)
        try:
            return await to_thread.run_sync(read, limiter=self._threads)
        except RedisError:
            self._metrics.redis_errors.labels("watch").inc()
            return None

    async def _withdrawn(self, key: ApiKey | None) -> None:
        """Returns when a key is withdrawn."""
        while self._is_valid(key):
            await asyncio.sleep(KEYS_LOOK_SECONDS)

    def _is_valid(self, key: ApiKey | None) -> bool:
        return key is None or self._keys is None or self._keys.holds(key)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def is_told(status: JobStatus, last_event_id: str | None) -> bool:
    """Returns whether a client has received the final event of a job."""
    return status.state.is_terminal and last_event_id == status.state


async def job_events(
    news: AsyncIterator[JobStatus | Preview], last_event_id: str | None, key: ApiKey | None
) -> AsyncIterator[ServerSentEvent]:
    """Yields `progress` at each change, `preview` with unfinished images, and at the end the job, named by its state.

    An id says what a client knows after the event. So an EventSource that connects again with it gets only later ones.

    Args:
        last_event_id: the id of the last event that the client has received; None if it has received none.
    """
    known, retry = last_event_id, RECONNECT_MILLISECONDS
    async for item in news:
        if isinstance(item, Preview):
            name, data = "preview", item.model_dump_json()
        elif item.state.is_terminal:
            name, data, known = item.state.value, job_text(item, key), item.state.value
        else:
            name, data = "progress", Outlook.of(item).model_dump_json(exclude_none=True)
            before, known = known, hashlib.sha256(data.encode()).hexdigest()[:16]
            if known == before:
                continue
        yield ServerSentEvent(event=name, raw_data=data, id=known, retry=retry)
