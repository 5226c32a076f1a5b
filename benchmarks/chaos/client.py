"""Clients: they post, wait, cancel and fetch as good clients do, and note what they see."""

import asyncio
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from .orders import Order, Recipe

PAUSE_SECONDS = 0.5
POST_SECONDS = 120.0  # after which a client gives up an errand that no server accepts
SECOND_LOOK_SECONDS = 3.0
TIMEOUT = httpx.Timeout(10, read=90)
ENDS = ("succeeded", "failed", "cancelled")
NOT_NOW = (429, 503)
JOB_FAILED = "/problems/job-failed"
CONFLICT = "/problems/idempotency-conflict"
Hashes = tuple[str, ...]


@dataclass
class Errand:
    """The course of an order.

    Attributes:
        wanted: the recipe that was accepted; one of the two where there was a rival.
        ids: the ids of its job that answers gave; one errand can have one only.
        state: the last state that was seen of its job.
        failure: the code of a job that failed.
        steps: the image-steps that the job had done at the end.
        version: the version of the model that drew them, as the job says.
        pictures: the SHA-256 of the fetched images.
        lost: whether a front end no longer knew the accepted job or its images.
        surprises: answers that no client should get.
        cancelled_at, ended_at: when DELETE was answered, and when the job ended; seconds since the epoch.
        flipped: whether the job was seen in another state after its end.
    """

    order: Order
    wanted: int
    ids: set[str] = field(default_factory=set)
    state: str | None = None
    failure: str | None = None
    steps: int = 0
    version: str = ""
    pictures: Hashes | None = None
    lost: bool = False
    surprises: list[str] = field(default_factory=list)
    cancelled_at: float | None = None
    ended_at: float | None = None
    flipped: bool = False

    @property
    def is_over(self) -> bool:
        return self.state in ENDS


@dataclass
class Clients:
    """All clients of a run; they share connections and ask the front ends in turn.

    Attributes:
        webhook: the address that is called at the end of each job; empty for none.
        errands: the errands of all orders so far.
    """

    http: httpx.AsyncClient
    urls: Sequence[str]
    recipes: Sequence[Recipe]
    webhook: str = ""
    errands: list[Errand] = field(default_factory=list)
    _turn: int = 0

    async def carry_out(self, order: Order) -> Errand:
        """Carries out an order from its request to its images; returns when the job has ended or is lost."""
        errand = Errand(order, order.recipe)
        self.errands.append(errand)
        bids = [order.recipe, order.recipe if order.twin else order.rival]
        await asyncio.gather(*(self._post(errand, recipe) for recipe in bids if recipe is not None))
        for job_id in list(errand.ids):
            if order.cancel_after is not None:
                await asyncio.sleep(order.cancel_after)
                await self._cancel(errand, job_id)
            await self._follow(errand, job_id)
        return errand

    async def _post(self, errand: Errand, recipe: int) -> None:
        order, wanted = errand.order, self.recipes[recipe]
        headers = {"Accept": "application/zip", **({"Idempotency-Key": order.key} if order.key else {})}
        if order.manner != "wait" or order.cancel_after is not None:
            headers["Prefer"] = "respond-async"
        files = {name: (f"{name}.png", data, "image/png") for name, data in wanted.parts.items()} or None
        parameters = [*wanted.parameters, *([("webhook", self.webhook)] if self.webhook else [])]
        deadline = time.monotonic() + POST_SECONDS
        while time.monotonic() < deadline:
            answer = await self._ask("POST", wanted.path, params=parameters, headers=headers, files=files)
            if answer is not None and answer.status_code not in NOT_NOW:
                self._read_answer(errand, recipe, answer)
                return
            if answer is None and order.key is None:
                return  # it may have been accepted, and the client cannot know
            await asyncio.sleep(PAUSE_SECONDS)

    def _read_answer(self, errand: Errand, recipe: int, answer: httpx.Response) -> None:
        if answer.is_success:
            if errand.ids and errand.wanted != recipe:
                errand.surprises.append("two different requests were accepted under one key")
            errand.wanted = recipe
            errand.ids.add(answer.headers["x-job-id"])
            if answer.headers["content-type"] == "application/zip":
                errand.pictures, errand.state = _unzip(answer.content), "succeeded"
        elif _problem(answer) == JOB_FAILED:
            errand.state, errand.failure = "failed", answer.json().get("code")
        elif not (_problem(answer) == CONFLICT and errand.order.rival is not None):
            errand.surprises.append(_describe(answer))

    async def _cancel(self, errand: Errand, job_id: str) -> None:
        answer = await self._insist("DELETE", f"/jobs/{job_id}")
        if answer.is_success:
            errand.cancelled_at = time.time()
        elif answer.status_code != 404:  # a missing job shows below
            errand.surprises.append(_describe(answer))

    async def _follow(self, errand: Errand, job_id: str) -> None:
        if errand.order.manner == "events":
            await self._listen(job_id)
        while not await self._look(errand, job_id):
            await asyncio.sleep(PAUSE_SECONDS)
        if errand.state == "succeeded" and not errand.lost and errand.pictures is None:
            await self._fetch(errand, job_id)
        state = errand.state
        await asyncio.sleep(SECOND_LOOK_SECONDS)
        while not errand.lost and not await self._look(errand, job_id):
            await asyncio.sleep(PAUSE_SECONDS)
        errand.flipped = errand.state != state

    async def _listen(self, job_id: str) -> None:
        """Reads events until the last one, or until the stream breaks; then reading the job says more."""
        try:
            async with self.http.stream("GET", f"{self._next_url()}/jobs/{job_id}/events") as stream:
                async for line in stream.aiter_lines():
                    if line.removeprefix("event: ") in ENDS:
                        return
        except httpx.HTTPError:
            return

    async def _look(self, errand: Errand, job_id: str) -> bool:
        """Reads the job; returns whether there is nothing more to wait for."""
        answer = await self._insist("GET", f"/jobs/{job_id}")
        if not answer.is_success:
            errand.lost = errand.lost or answer.status_code == 404
            errand.surprises.append(_describe(answer))
            return True
        job: dict[str, Any] = answer.json()
        errand.state, errand.steps, errand.version = job["state"], job["steps"]["done"], job["version"]
        errand.failure = job.get("failure", {}).get("code")
        if "ended_at" in job:
            errand.ended_at = datetime.fromisoformat(job["ended_at"]).timestamp()
        return errand.is_over

    async def _fetch(self, errand: Errand, job_id: str) -> None:
        answer = await self._insist("GET", f"/jobs/{job_id}/image", headers={"Accept": "application/zip"})
        if answer.is_success:
            errand.pictures = _unzip(answer.content)
        else:
            errand.lost = answer.status_code in (404, 410)
            errand.surprises.append(_describe(answer))

    async def _insist(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Asks one front end after the other until one answers other than "not now"."""
        while (answer := await self._ask(method, path, **more)) is None or answer.status_code in NOT_NOW:
            await asyncio.sleep(PAUSE_SECONDS)
        return answer

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """Returns the answer of the next front end, None if it is cut off or there is none."""
        try:
            return await self.http.request(method, f"{self._next_url()}{path}", **more)
        except httpx.HTTPError:
            return None

    def _next_url(self) -> str:
        self._turn += 1
        return self.urls[self._turn % len(self.urls)]


async def reference(clients: Clients) -> dict[tuple[str, int], Hashes]:
    """Returns the images of every harmless recipe by version and index, made while nothing breaks."""
    orders = [Order(index, 0.0, index) for index, recipe in enumerate(clients.recipes) if not recipe.fatal]
    errands = await asyncio.gather(*map(clients.carry_out, orders))
    for errand in errands:
        if errand.pictures is None:
            path = clients.recipes[errand.wanted].path
            raise SystemExit(f"without any fault {path} ended as {errand.state}: {errand.failure or errand.surprises}")
    return {(errand.version, errand.wanted): errand.pictures for errand in errands if errand.pictures is not None}


async def send(clients: Clients, orders: Sequence[Order], begin: float, *, patience: float) -> None:
    """Sends each order when it is due, and waits for all; open errands are given up after `patience` seconds."""

    async def when_due(order: Order) -> None:
        await asyncio.sleep(begin + order.at - time.monotonic())
        await clients.carry_out(order)

    tasks = [asyncio.create_task(when_due(order)) for order in orders]
    last = max((order.at for order in orders), default=0.0)
    done, late = await asyncio.wait(tasks, timeout=begin + last + patience - time.monotonic())
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()


def _unzip(content: bytes) -> Hashes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        return tuple(hashlib.sha256(archive.read(name)).hexdigest() for name in names)


def _problem(answer: httpx.Response) -> str | None:
    if answer.headers.get("content-type") != "application/problem+json":
        return None
    problem: Mapping[str, Any] = answer.json()
    return problem.get("type")


def _describe(answer: httpx.Response) -> str:
    method, path = answer.request.method, answer.request.url.path
    said = _problem(answer) or json.dumps(answer.text[:200])
    return f"{method} {path}: {answer.status_code} {said}"
