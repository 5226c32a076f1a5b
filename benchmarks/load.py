"""The load: a seeded mix of short and long requests, and two ways to send it."""

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic

import httpx

from .stack import System

SHORT, LONG = (1, 10), (4, 100)  # n and steps
BLOCK = (SHORT, SHORT, SHORT, LONG)
# The settings of the peers, stated because a model's own defaults may differ.
RUN = {"sampler": "ddim", "eta": "0", "spacing": "leading"}
MEAN_IMAGE_STEPS = sum(n * steps for n, steps in BLOCK) / len(BLOCK)
# Less than the five seconds after which uvicorn closes: a connection must not be closed while a request is on its way.
LIMITS = httpx.Limits(max_connections=None, keepalive_expiry=2.0)
FAILURE_PAUSE = 0.5
POLL_SECONDS = 0.05
LONE_SECONDS = 60.0  # in which a lone request is answered


@dataclass(frozen=True)
class Order:
    """A request; `at` is the moment when it is due, in seconds since the start."""

    n: int
    steps: int
    seed: int
    at: float = 0.0

    @property
    def image_steps(self) -> int:
        return self.n * self.steps

    @property
    def is_short(self) -> bool:
        return (self.n, self.steps) == SHORT


@dataclass(frozen=True)
class Outcome:
    """The course of a request, with times on the clock of `monotonic`. `error` is None if an image came."""

    order: Order
    began: float
    ended: float
    error: str | None = None


def mix(seed: int) -> Iterator[Order]:
    """Yields orders without end, the same for every system.

    One of each four is long: with a free draw, luck would decide how much work a window of half a minute holds.
    """
    draw = random.Random(seed)
    while True:
        for n, steps in draw.sample(BLOCK, len(BLOCK)):
            yield Order(n, steps, seed=draw.randrange(2**31))


def poisson(rate: float, seconds: float, seed: int) -> list[Order]:
    """Returns orders of the mix that come independently of each other, `rate` a second on average."""
    draw = random.Random(seed + 1)
    orders, at = [], draw.expovariate(rate)
    for order in mix(seed):
        if at > seconds:
            break
        orders.append(replace(order, at=at))
        at += draw.expovariate(rate)
    return orders


async def send_open(system: System, orders: Sequence[Order], *, patience: float) -> list[Outcome]:
    """Sends each order when it is due, whatever has become of the others; `began` is the moment when it was due.

    Args:
        patience: the seconds after the last arrival at which unanswered orders are given up.
    """
    begin = monotonic()
    give_up = begin + max((order.at for order in orders), default=0.0) + patience
    async with httpx.AsyncClient(limits=LIMITS, timeout=None) as client, asyncio.TaskGroup() as group:
        tasks = []
        for order in orders:
            await asyncio.sleep(begin + order.at - monotonic())
            tasks.append(group.create_task(_send(client, system, order, began=begin + order.at, give_up=give_up)))
    return [task.result() for task in tasks]


def lone_seconds(system: System, *, steps: int, count: int) -> list[float]:
    """Returns the seconds of requests for one image, each sent when the one before is answered; two more warm up."""

    async def send() -> list[Outcome]:
        async with httpx.AsyncClient(limits=LIMITS, timeout=LONE_SECONDS) as client:
            orders = (Order(1, steps, seed) for seed in range(2 + count))
            return [await _send(client, system, each, began=monotonic(), give_up=math.inf) for each in orders]

    return [outcome.ended - outcome.began for outcome in asyncio.run(send())][2:]


async def saturate(
    system: System, orders: Iterator[Order], *, clients: int, seconds: float, patience: float
) -> tuple[float, list[Outcome]]:
    """Keeps `clients` requests in the system; returns image-steps a second in a window, and all outcomes.

    The window opens when every client has had an answer: from then on as much work arrives as is done. The load goes on
    until the last request of the window has ended, so that it ends under the same load.

    Args:
        patience: the largest number of seconds before and after the window.
    """
    outcomes: list[Outcome] = []
    running: dict[int, float] = {}
    served: set[int] = set()
    last = monotonic() + seconds + 2 * patience

    async def send_always(number: int, client: httpx.AsyncClient) -> None:
        while True:
            running[number] = monotonic()
            outcome = await _send(client, system, next(orders), began=running[number], give_up=last)
            outcomes.append(outcome)
            served.add(number)
            if outcome.error is not None:
                await asyncio.sleep(FAILURE_PAUSE)

    async with httpx.AsyncClient(limits=LIMITS, timeout=None) as client:
        tasks = [asyncio.create_task(send_always(number, client)) for number in range(clients)]
        begun = monotonic()
        while len(served) < clients and monotonic() < begun + patience:
            await asyncio.sleep(POLL_SECONDS)
        opens = monotonic()
        closes = opens + seconds
        while monotonic() < closes or (min(running.values()) < closes and monotonic() < closes + patience):
            await asyncio.sleep(POLL_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return work_between(opens, closes, outcomes) / seconds, outcomes


def work_between(opens: float, closes: float, outcomes: Sequence[Outcome]) -> float:
    """Returns the image-steps done in a window; a request partly outside counts by the share of its time inside."""
    work = 0.0
    for outcome in outcomes:
        inside = min(outcome.ended, closes) - max(outcome.began, opens)
        if outcome.error is None and inside > 0:
            work += outcome.order.image_steps * inside / (outcome.ended - outcome.began)
    return work


async def fetch(system: System, order: Order, *, timeout: float) -> bytes:
    """Fetches one image."""
    async with httpx.AsyncClient(timeout=timeout) as client:
        return await _post(client, system, order)


async def _send(client: httpx.AsyncClient, system: System, order: Order, *, began: float, give_up: float) -> Outcome:
    error = None
    try:
        async with asyncio.timeout(give_up - monotonic()):
            await _post(client, system, order)
    except TimeoutError:
        error = "no answer in time"
    except httpx.HTTPError as problem:
        error = str(problem) or type(problem).__name__
    return Outcome(order, began, monotonic(), error)


async def _post(client: httpx.AsyncClient, system: System, order: Order) -> bytes:
    parameters = {"n": order.n, "steps": order.steps, "seed": order.seed}
    url = f"{system.url}/generate"
    if system.takes_json:
        response = await client.post(url, json=parameters)
    else:
        response = await client.post(url, params={**parameters, **RUN})
    if response.status_code != 200 or response.headers["content-type"] != "image/png":
        raise httpx.HTTPError(f"{system.name} answered {response.status_code}: {response.text[:200]}")
    return response.content
