"""The clients: one for programs that wait, and one for programs with an event loop, of asyncio or trio."""

import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, closing, suppress
from functools import partial
from typing import Any, Self, Unpack

import anyio
import httpx
from httpx_sse import EventSource

from . import flows
from .events import BROKEN, Ended, Event, EventReader
from .flows import Command, Flow, Pause, Reply, T
from .options import Filters
from .requests import AnyJob, Requests, request_of
from .results import Price, Result


class Job(AnyJob["Job", Result]):
    """A job on a server, as `Client` returns it.

    Examples:
        job = client.submit("generate", n=4, steps=50)
        faces = job.images()
    """

    def events(self) -> Iterator[Event]:
        """Yields progress and previews as they come, then `Ended`. A broken connection is made again.

        The worker makes previews only while somebody listens; `wait` waits for the end alone.
        """
        reader = EventReader(self.id)
        while not reader.ended:
            response = self._client._run(reader.connect(self._client._patience()))
            with closing(response), suppress(*BROKEN):
                for sent in EventSource(response).iter_sse():
                    event = reader.read(sent)
                    if isinstance(event, Ended):
                        self.facts = event.facts
                    if event is not None:
                        yield event


class Client(Requests[Result, Job, Price, dict[str, Any]]):
    """A client of one server, for any number of threads. As a context manager it closes its connections at the end.

    A call is repeated while the server does not answer or is overloaded, until the timeout. Repetitions never make a
    second job.

    Args:
        url: the address of the server.
        api_key: the API key, if the server has keys.
        timeout: seconds that a call may take in all, its job included; None for no limit.
        transport: how requests are sent; by default over the network.

    Examples:
        with Client("http://127.0.0.1:8000") as client:
            faces = client.generate(n=4, steps=50, seed=100)
            faces[0].save("face.png")
    """

    _http: httpx.Client
    _http_kind, _job_kind = httpx.Client, Job

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def jobs(self, **filters: Unpack[Filters]) -> Iterator[Job]:
        """Yields your jobs, newest first: those of the API key's owner; all if it is an operator, or without keys."""
        cursor: str | None = None
        while True:
            page = self._run(flows.page(filters, cursor, self._patience()))
            for facts in page["jobs"]:
                yield Job(self, facts)
            cursor = page.get("next")
            if cursor is None:
                return

    def _run(self, flow: Flow[T]) -> T:
        go_on = partial(flow.send, None)
        while True:
            try:
                command = go_on()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                go_on = partial(flow.send, self._do(command))
            except BaseException as interruption:
                go_on = partial(flow.throw, interruption)

    def _do(self, command: Command) -> Reply:
        if isinstance(command, Pause):
            time.sleep(command.seconds)
            return None
        try:
            response = self._http.send(request_of(self._http, command), stream=command.stream)
            if not response.is_success:
                response.read()
        except httpx.TransportError as error:
            return error
        return response


class AsyncJob(AnyJob[Coroutine[Any, Any, "AsyncJob"], Coroutine[Any, Any, Result]]):
    """A job on a server, as `AsyncClient` returns it.

    Examples:
        job = await client.submit("generate", n=4, steps=50)
        faces = await job.images()
    """

    async def events(self) -> AsyncIterator[Event]:
        """Yields like `Job.events`; `contextlib.aclosing` closes the connection if the iteration ends early."""
        reader = EventReader(self.id)
        while not reader.ended:
            response = await self._client._run(reader.connect(self._client._patience()))
            async with aclosing(response), aclosing(EventSource(response).aiter_sse()) as source:
                with suppress(*BROKEN):
                    async for sent in source:
                        event = reader.read(sent)
                        if isinstance(event, Ended):
                            self.facts = event.facts
                        if event is not None:
                            yield event


class AsyncClient(
    Requests[
        Coroutine[Any, Any, Result],
        Coroutine[Any, Any, AsyncJob],
        Coroutine[Any, Any, Price],
        Coroutine[Any, Any, dict[str, Any]],
    ]
):
    """A client like `Client`, with the same arguments, whose methods are awaited; any number of tasks may use it.

    Examples:
        async with AsyncClient("http://127.0.0.1:8000") as client:
            faces = await client.generate(n=4, steps=50, seed=100)
            faces[0].save("face.png")
    """

    _http: httpx.AsyncClient
    _http_kind, _job_kind = httpx.AsyncClient, AsyncJob

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def jobs(self, **filters: Unpack[Filters]) -> AsyncIterator[AsyncJob]:
        """Yields your jobs, newest first: those of the API key's owner; all if it is an operator, or without keys."""
        cursor: str | None = None
        while True:
            page = await self._run(flows.page(filters, cursor, self._patience()))
            for facts in page["jobs"]:
                yield AsyncJob(self, facts)
            cursor = page.get("next")
            if cursor is None:
                return

    async def _run(self, flow: Flow[T]) -> T:
        go_on, interrupted = partial(flow.send, None), False
        while True:
            try:
                command = go_on()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                with anyio.CancelScope(shield=interrupted):  # a flow may end its job when its task is cancelled
                    reply = await self._do(command)
                go_on = partial(flow.send, reply)
            except BaseException as interruption:
                go_on, interrupted = partial(flow.throw, interruption), True

    async def _do(self, command: Command) -> Reply:
        if isinstance(command, Pause):
            await anyio.sleep(command.seconds)
            return None
        try:
            response = await self._http.send(request_of(self._http, command), stream=command.stream)
            if not response.is_success:
                await response.aread()
        except httpx.TransportError as error:
            return error
        return response
