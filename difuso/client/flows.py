"""The next question to the server, given its last answer; without input and output, so that both clients share it.

A flow is a generator. It yields a `Call` and is sent the answer, or the error of httpx if none came. Or it yields a
`Pause` and continues after it. An interruption of either is thrown into it. Its return value is the result.
"""

import base64
import itertools
import json
import logging
import math
import random
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from .errors import DifusoError, TimedOut, Unreachable, error_of
from .images import condition_file, file_of, is_file, noise_file
from .options import IMAGES, KindName
from .results import ENDED, Facts, Price, Result, understood

log = logging.getLogger(__name__)

T = TypeVar("T")

# Errors of httpx after which another try may succeed.
TRANSIENT = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)

ANSWER_SECONDS = 30.0  # for an answer, once the server need not wait for a job
POLL_SECONDS = 25.0  # of one long poll: proxies often cut what is silent for 30 or 60 s
REST_SECONDS = 1.0  # before asking again, where the server has not waited
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds between tries, if the server does not say when
LEAST_SECONDS = 1.0  # for an answer, however little time is left
LONGEST_QUERY = 4096  # characters; servers and proxies refuse heads of more than 8 or 16 KiB
ABANDON_SECONDS = 2.0  # for cancelling a job that nobody waits for any more


@dataclass(frozen=True)
class Call:
    """A request of HTTP.

    Attributes:
        params: the query, by name; a name may be repeated.
        files: the parts of a multipart body: bytes, or as httpx has them a name and an open file.
        body: a body of JSON, instead of parts.
        seconds: how long the server may be silent.
        stream: whether the body is read bit by bit, by the caller.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    seconds: float = ANSWER_SECONDS
    stream: bool = False


@dataclass(frozen=True)
class Pause:
    """A time to wait before the next call, in seconds."""

    seconds: float


Command = Call | Pause
Reply = httpx.Response | httpx.TransportError | None
Flow = Generator[Command, Any, T]  # it is sent a Reply: None after a pause


class Patience:
    """The time that a flow may take: a timeout in seconds from now; None for no limit."""

    def __init__(self, timeout: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._end = math.inf if timeout is None else clock() + timeout

    @property
    def left(self) -> float:
        """The seconds that are left; at least 0."""
        return max(0.0, self._end - self.clock())

    def pause(self, failure: DifusoError, tries: int) -> Pause:
        """Returns the pause after a try that failed.

        The server gives the shortest pause, and pauses grow with the number of tries. They are random, so that the
        clients of a restarted server do not all come at once. Raises the failure itself if no time would be left.
        """
        grown = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0)
        seconds = max(grown, failure.retry_after or 0.0)
        if seconds > self.left:
            raise failure
        log.warning("trying again in %.1f s: %s", seconds, failure)
        return Pause(seconds)


def exchange(call: Call, patience: Patience, *, repeats: bool = True) -> Flow[httpx.Response]:
    """Returns the answer to a call, which is repeated while its failure may pass.

    A call that is not safe to repeat `repeats` only what the server has refused.

    Raises the DifusoError that the server answers, or `Unreachable`.
    """
    for tries in itertools.count():
        seconds = min(call.seconds, max(LEAST_SECONDS, patience.left))
        reply: Reply = yield replace(call, seconds=seconds)
        if isinstance(reply, httpx.Response):
            if reply.is_success:
                return reply
            failure = error_of(reply)
        else:
            failure = Unreachable(
                f"the server has not answered {call.method} {call.path}: {str(reply) or type(reply).__name__}"
            )
        if not (failure.may_pass or (repeats and isinstance(reply, TRANSIENT))):
            raise failure
        yield patience.pause(failure, tries)
    raise AssertionError("the loop has no end")


def ask(call: Call, patience: Patience, *entries: str, repeats: bool = True) -> Flow[dict[str, Any]]:
    """Returns the object of JSON that answers a call, and has these entries; otherwise like `exchange`."""
    answer = yield from exchange(call, patience, repeats=repeats)
    with understood(f"The answer to {call.method} {call.path}"):
        found: dict[str, Any] = json.loads(answer.content)
        if missing := set(entries) - found.keys():
            raise ValueError(f"{missing} are missing")
        return found


def ask_job(call: Call, patience: Patience) -> Flow[Facts]:
    """Returns the facts of a job, which answer a call."""
    return ask(call, patience, "id", "state")


def submit(kind: KindName, images: tuple[Any, ...], options: Mapping[str, Any], patience: Patience) -> Flow[Facts]:
    """Makes a job and returns its facts at once. Repeating the call makes no second job.

    Args:
        images: the images, in the order of `IMAGES`.
        options: the parameters, images among them; those that are None are left out.
    """
    return (yield from ask_job(posting(kind, images, options), patience))


def price(kind: KindName, images: tuple[Any, ...], options: Mapping[str, Any], patience: Patience) -> Flow[Price]:
    """Returns the price of a job, which is not made. The arguments are those of `submit`."""
    call = posting(kind, images, options)
    answer = yield from ask(replace(call, params=(*call.params, ("dry_run", "true"))), patience)
    with understood(f"The answer to POST {call.path}"):
        return Price.read(answer)


def posting(kind: KindName, images: tuple[Any, ...], options: Mapping[str, Any]) -> Call:
    """Returns the call that makes a job; raises OSError, TypeError, ValueError if an argument cannot be sent."""
    if kind not in IMAGES:
        raise ValueError(f"the kind must be one of {', '.join(IMAGES)}, not {kind}")
    if len(images) > len(IMAGES[kind]):
        raise TypeError(f"{kind} takes {len(IMAGES[kind])} images at most, not {len(images)}")
    given = {**dict(zip(IMAGES[kind], images, strict=False)), **options}
    given = {name: value for name, value in given.items() if value is not None}
    if "condition" in given:
        raise TypeError("condition is the name of the HTTP parameter: give conditions, a dictionary of name and value")
    key = str(given.pop("idempotency_key", uuid.uuid4())).replace("\\", "\\\\").replace('"', '\\"')
    headers = {"Prefer": "respond-async", "Idempotency-Key": f'"{key}"'}
    if "urgency" in given:
        headers["Priority"] = f"u={given.pop('urgency')}"
    is_named = "conditions" in given  # whether a server is to find none, even if there are none
    conditions = {name: value for name, value in given.pop("conditions", {}).items() if value is not None}
    parts = {name: given.pop(name) for name in IMAGES[kind] if name in given}
    files = {name: noise_file(part) if name == "noise" else file_of(part) for name, part in parts.items()}
    seen = {name: condition_file(conditions.pop(name)) for name, value in [*conditions.items()] if is_file(value)}
    texts = [f"{name}:{_text(value)}" for name, value in conditions.items()]
    query = query_of({**given, "condition": texts or [""] * is_named})
    if len(urlencode(query)) <= LONGEST_QUERY and not any(map(_is_nested, conditions.values())):
        return Call("POST", f"/{kind}", query, headers, files | seen)
    table: dict[str, Any] = {name: [text for other, text in query if other == name] for name, _ in query}
    in_base64 = {name: base64.b64encode(file).decode() for name, file in (files | seen).items()}
    if table.pop("condition", None):
        table["conditions"] = {**conditions, **{name: in_base64.pop(name) for name in seen}}
    body = json.dumps({**table, **in_base64}, default=_listed).encode()
    return Call("POST", f"/{kind}", (), {**headers, "Content-Type": "application/json"}, body=body)


def _is_nested(value: Any) -> bool:
    """Returns whether the value of a condition is a list of lists, which may be a sequence: a query holds none."""
    return isinstance(value, list | tuple) and any(isinstance(each, list | tuple) for each in value)


def _text(value: Any) -> str:
    """Returns the value of a condition as the query holds it: a list, which may be one of an array, as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=_listed)


def _listed(array: Any) -> Any:
    """Returns an array as JSON knows it."""
    return array.tolist()


def wait(facts: Facts, patience: Patience) -> Flow[Facts]:
    """Returns the facts of a job that has ended; raises TimedOut if it does not end within the time."""
    while facts["state"] not in ENDED:
        # The answer must come before the time is over, so that the call ends with a time-out, not a silent server.
        began, seconds = patience.clock(), math.floor(min(POLL_SECONDS, max(0.0, patience.left - LEAST_SECONDS)))
        call = Call("GET", _path(facts), headers={"Prefer": f"wait={seconds}"}, seconds=POLL_SECONDS + ANSWER_SECONDS)
        facts = yield from ask_job(call, patience)
        if facts["state"] in ENDED:
            break
        if patience.left == 0:
            raise TimedOut(facts["id"])
        if seconds == 0 or patience.clock() - began < seconds:  # it was not asked to wait, or is about to end
            yield Pause(min(REST_SECONDS, patience.left))
    return facts


def result(ended: Facts, patience: Patience) -> Flow[Result]:
    """Returns the images of a job that has ended, and its trace if it has one."""
    links = ended.get("links", {})
    no_pngs = "image" in links and "images" not in links
    archive = None if no_pngs else (yield from _images(ended, "application/zip", patience))
    npz = (yield from _images(ended, "application/x-npz", patience)) if no_pngs or ended.get("trace") else None
    with understood(f"The answer to GET {_path(ended)}/image"):
        return Result.read(archive, ended, npz)


def _images(ended: Facts, media_type: str, patience: Patience) -> Flow[bytes]:
    call = Call("GET", f"{_path(ended)}/image", headers={"Accept": media_type})
    return (yield from exchange(call, patience)).content


def answer(kind: KindName, images: tuple[Any, ...], options: Mapping[str, Any], patience: Patience) -> Flow[Result]:
    """Makes a job, waits for it and returns its images.

    As over HTTP, a job ends when nobody waits for it any more, unless the caller chose its idempotency key.
    """
    call = posting(kind, images, options)
    try:
        facts = yield from ask_job(call, patience)
        ended = yield from wait(facts, patience)
    except GeneratorExit:
        raise
    except BaseException as error:
        is_left = isinstance(error, TimedOut) or not isinstance(error, Exception)  # by Ctrl-C, or the task is cancelled
        if is_left and options.get("idempotency_key") is None:
            with suppress(DifusoError):
                rest = Patience(ABANDON_SECONDS, clock=patience.clock)
                facts = yield from ask_job(call, rest)  # found by its key, even if the first answer has not come
                yield from cancel(facts, rest)
        raise
    return (yield from result(ended, patience))


def models(patience: Patience) -> Flow[dict[str, Any]]:
    """Returns the list of models."""
    return ask(Call("GET", "/models"), patience, "models")


def get_job(facts: Facts, patience: Patience) -> Flow[Facts]:
    """Returns the facts of a job as they are now."""
    return ask_job(Call("GET", _path(facts)), patience)


def cancel(facts: Facts, patience: Patience) -> Flow[Facts]:
    """Cancels a job and returns its facts; a running job ends at its next step."""
    return ask_job(Call("DELETE", _path(facts)), patience)


def delete_images(facts: Facts, patience: Patience) -> Flow[Facts]:
    """Deletes the images of a job that has ended, and returns its facts."""
    yield from exchange(Call("DELETE", f"{_path(facts)}/images"), patience)
    return (yield from get_job(facts, patience))


def page(filters: Mapping[str, Any], cursor: str | None, patience: Patience) -> Flow[dict[str, Any]]:
    """Returns a part of the list of jobs: `jobs`, and the cursor of the `next` part if there may be one."""
    return ask(Call("GET", "/jobs", query_of({**filters, "cursor": cursor})), patience, "jobs")


def _path(facts: Facts) -> str:
    return f"/jobs/{facts['id']}"


def query_of(parameters: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns the query of a request; names are without the underscore that keeps them apart from Python's keywords."""
    given = {name.rstrip("_"): value for name, value in parameters.items() if value is not None}
    return tuple(pair for name, value in given.items() for pair in _pairs(name, value))


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    """Returns a parameter as the query holds it; a sequence repeats its name."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [pair for each in value for pair in _pairs(name, each)]
    return [(name, str(value).lower() if isinstance(value, bool) else str(value))]
