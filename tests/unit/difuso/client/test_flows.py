"""What the client asks next: its flows are driven by hand, with a clock that only calls and pauses move."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest

from difuso.client import (
    DifusoError,
    InvalidRequest,
    JobFailed,
    ModelUnavailable,
    Overloaded,
    TimedOut,
    Unavailable,
    Unreachable,
    flows,
)
from difuso.client.flows import Call, Flow, Patience, Pause, Reply
from difuso.client.requests import request_of
from difuso.jobs.conditions import read_values
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import Vector

ID = "5f0c0000-0000-0000-0000-000000000000"


class Driver:
    """Answers the calls of flows from a script, and notes all that they ask for."""

    def __init__(self, *script: Reply | KeyboardInterrupt, took: float = 0.0) -> None:
        self.now = 0.0
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        self._script = list(script)
        self._took = took

    def patience(self, timeout: float | None = 60.0) -> Patience:
        return Patience(timeout, clock=lambda: self.now)

    def run(self, flow: Flow[Any]) -> Any:
        reply: Reply | KeyboardInterrupt = None
        while True:
            try:
                command = flow.throw(reply) if isinstance(reply, KeyboardInterrupt) else flow.send(reply)
            except StopIteration as end:
                return end.value
            if isinstance(command, Pause):
                self.pauses.append(command.seconds)
                self.now += command.seconds
                reply = None
            else:
                self.calls.append(command)
                self.now += self._took
                reply = self._script.pop(0)

    def sent(self) -> list[tuple[str, str]]:
        return [(call.method, call.path) for call in self.calls]


def job(state: str) -> httpx.Response:
    return httpx.Response(200, json={"id": ID, "state": state})


def problem(slug: str, status: int, *, retry_after: int | None = None) -> httpx.Response:
    headers = {"Content-Type": "application/problem+json"}
    headers |= {} if retry_after is None else {"Retry-After": str(retry_after)}
    content = {"type": f"/problems/{slug}", "title": "T", "status": status, "detail": slug}
    return httpx.Response(status, content=json.dumps(content), headers=headers)


FAILURES: list[Reply] = [
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.ReadTimeout("silent"),
    httpx.RemoteProtocolError("cut"),
    problem("queue-unavailable", 503),
    problem("overloaded", 429),
    httpx.Response(502, text="<html>", request=httpx.Request("GET", "http://proxy")),
    httpx.Response(504, text="<html>", request=httpx.Request("GET", "http://proxy")),
]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_post_is_repeated_with_its_key_until_it_is_answered(failure: Reply) -> None:
    driver = Driver(failure, failure, failure, job("queued"))
    facts = driver.run(flows.submit("generate", (), {"n": 2}, driver.patience()))
    assert facts["id"] == ID
    assert driver.calls == driver.calls[:1] * 4
    assert len(driver.pauses) == 3
    assert driver.pauses == sorted(driver.pauses)
    assert 0.1 < driver.pauses[0] <= 0.25


def test_two_calls_have_two_keys_unless_one_is_given() -> None:
    keys = [flows.posting("generate", (), {}).headers["Idempotency-Key"] for _ in range(2)]
    assert len(set(keys)) == 2
    assert flows.posting("generate", (), {"idempotency_key": 'a "b\\'}).headers["Idempotency-Key"] == '"a \\"b\\\\"'


def test_a_server_that_says_no_time_is_not_asked_without_a_pause() -> None:
    driver = Driver(*[problem("overloaded", 429, retry_after=0)] * 1000)
    with pytest.raises(Overloaded):
        driver.run(flows.submit("generate", (), {}, driver.patience(60)))
    assert len(driver.calls) < 40


def test_a_pause_longer_than_the_time_left_is_not_begun() -> None:
    driver = Driver(problem("overloaded", 429, retry_after=61))
    with pytest.raises(Overloaded):
        driver.run(flows.submit("generate", (), {}, driver.patience(60)))
    assert driver.pauses == []


def test_a_server_that_stays_away_is_given_up_at_the_timeout() -> None:
    driver = Driver(*[httpx.ConnectError("refused")] * 100)
    with pytest.raises(Unreachable, match="refused"):
        driver.run(flows.submit("generate", (), {}, driver.patience(60)))
    assert 40 < driver.now <= 60
    assert max(driver.pauses) <= flows.LONGEST_PAUSE


def test_without_a_timeout_a_server_is_awaited_for_ever() -> None:
    driver = Driver(*[problem("store-unavailable", 503)] * 2000, job("queued"))
    assert driver.run(flows.submit("generate", (), {}, driver.patience(None)))["id"] == ID
    assert driver.now > 2 * 3600


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (problem("invalid-request", 422), InvalidRequest),
        (problem("model-unavailable", 503, retry_after=1), ModelUnavailable),
        (problem("job-failed", 504), JobFailed),
        (problem("job-failed", 502), JobFailed),
        (httpx.UnsupportedProtocol("no http://"), Unreachable),
    ],
)
def test_what_does_not_pass_is_not_repeated(failure: Reply, kind: type[Exception]) -> None:
    driver = Driver(failure)
    with pytest.raises(kind):
        driver.run(flows.models(driver.patience()))
    assert driver.pauses == []


def test_a_wait_goes_on_over_many_requests() -> None:
    driver = Driver(job("queued"), job("running"), job("running"), job("failed"), took=25)
    assert driver.run(flows.wait({"id": ID, "state": "queued"}, driver.patience(None)))["state"] == "failed"
    assert driver.sent() == [("GET", f"/jobs/{ID}")] * 4
    assert {call.headers["Prefer"] for call in driver.calls} == {"wait=25"}
    assert min(call.seconds for call in driver.calls) >= 50  # a server that waits may be slow as well
    assert driver.pauses == []


def test_a_wait_survives_a_server_that_restarts() -> None:
    driver = Driver(job("running"), httpx.ConnectError("refused"), httpx.ReadError("reset"), job("succeeded"))
    assert driver.run(flows.wait({"id": ID, "state": "queued"}, driver.patience()))["state"] == "succeeded"
    assert driver.pauses[0] == flows.REST_SECONDS  # it ended before the time, so as not to be asked without a rest
    assert len(driver.pauses) == 3


def test_a_wait_ends_at_its_timeout_and_names_the_job() -> None:
    driver = Driver(job("running"), job("running"), took=25)
    with pytest.raises(TimedOut) as caught:
        driver.run(flows.wait({"id": ID, "state": "queued"}, driver.patience(40)))
    assert caught.value.job_id == ID
    assert [call.headers["Prefer"] for call in driver.calls] == ["wait=25", "wait=14"]


@pytest.mark.parametrize("left", [0.5, 25.5])
def test_a_server_is_not_asked_again_and_again_while_less_than_a_second_is_left(left: float) -> None:
    driver = Driver(*[job("running")] * 4, took=0.001 if left < 1 else 25)
    with pytest.raises(TimedOut):
        driver.run(flows.wait({"id": ID, "state": "queued"}, driver.patience(left)))
    assert len(driver.calls) <= 2
    assert driver.now >= left


def test_a_job_that_has_ended_is_not_asked_for() -> None:
    ended = {"id": ID, "state": "cancelled"}
    assert Driver().run(flows.wait(ended, Patience(0))) == ended


def test_an_interruption_is_not_held_up_by_a_server_that_is_away() -> None:
    driver = Driver(job("queued"), KeyboardInterrupt(), *[httpx.ConnectError("refused")] * 20)
    with pytest.raises(KeyboardInterrupt):
        driver.run(flows.answer("generate", (), {}, driver.patience(None)))
    assert driver.now <= flows.ABANDON_SECONDS
    assert max(call.seconds for call in driver.calls[2:]) <= flows.ABANDON_SECONDS


def test_a_refused_request_is_not_sent_again_to_cancel_it() -> None:
    driver = Driver(problem("invalid-request", 422))
    with pytest.raises(InvalidRequest):
        driver.run(flows.answer("generate", (), {}, driver.patience()))
    driver = Driver(job("queued"), *[problem("queue-unavailable", 503, retry_after=30)] * 2)
    with pytest.raises(Unavailable):
        driver.run(flows.answer("generate", (), {}, driver.patience(40)))


@pytest.mark.parametrize("content", ["<html>", "[]", "{}", '{"status": "ok"}'])
def test_a_server_of_another_kind_is_named(content: str) -> None:
    driver = Driver(httpx.Response(200, text=content))
    with pytest.raises(DifusoError, match="The answer to POST /generate is not from difuso: check the address"):
        driver.run(flows.price("generate", (), {}, driver.patience()))


def test_arguments_become_a_query_parts_and_headers() -> None:
    options = {"lambda_": (0.25, 1), "average": True, "eta": 0.1, "label": 3, "steps": None, "urgency": 0}
    call = flows.posting("interpolate", (b"a", b"b"), options)
    assert call.params == (("lambda", "0.25"), ("lambda", "1"), ("average", "true"), ("eta", "0.1"), ("label", "3"))
    assert call.files == {"image_a": b"a", "image_b": b"b"}
    assert call.headers["Priority"] == "u=0"
    call = flows.posting("interpolate", (None, None), {"seed": (3, 9), "lambda_": 1})
    assert (call.params, call.files) == ((("seed", "3"), ("seed", "9"), ("lambda", "1")), {})
    call = flows.posting("generate", (), {"seed": [3, 9], "label": ("bag", 4)})
    assert call.params == (("seed", "3"), ("seed", "9"), ("label", "bag"), ("label", "4"))
    assert flows.posting("restore", (b"a",), {"task": "inpaint", "mask": b"m"}).files == {"image": b"a", "mask": b"m"}


def test_a_query_too_long_for_an_address_is_sent_as_json() -> None:
    style = np.ones(4096) / 3
    call = flows.posting(
        "restore", (b"a",), {"task": "inpaint", "mask": b"m", "conditions": {"style": style, "map": b"c"}}
    )
    with httpx.Client(base_url="http://difuso") as client:
        request = request_of(client, call)
    assert len(str(request.url)) < 100
    assert request.headers["Content-Type"] == "application/json"
    body = json.loads(request.read())
    assert [body.pop(name) for name in ("image", "mask", "task")] == ["YQ==", "bQ==", ["inpaint"]]
    assert body["conditions"].pop("map") == "Yw=="
    query = SamplingQuery.model_validate({"condition": body["conditions"]})
    assert read_values(query.conditions, {"style": Vector(4096)}, model="m") == {"style": (tuple(style),)}
    assert flows.posting("generate", (), {"conditions": {"style": style[:16]}}).body is None
    assert flows.posting("generate", (), {"seed": [*range(10**15, 10**15 + 4096)]}).body is not None


def test_a_sequence_is_sent_as_an_array_or_as_lists_in_json() -> None:
    text = np.array([[0.5, -1], [2, 0.25]])
    (file,) = flows.posting("generate", (), {"conditions": {"text": text}}).files.values()
    assert np.array_equal(np.load(io.BytesIO(file)), text)
    body = flows.posting("generate", (), {"conditions": {"text": text.tolist()}}).body
    assert body is not None
    assert json.loads(body)["conditions"] == {"text": text.tolist()}


def test_wrong_arguments_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="denoise, generate, interpolate, restore, upscale, not paint"):
        flows.posting("paint", (), {})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="denoise takes 1 images at most, not 2"):
        flows.posting("denoise", (b"a", b"b"), {})
    with pytest.raises(TypeError, match="condition is the name of the HTTP parameter: give conditions"):
        flows.posting("generate", (), {"condition": ["hair:bun"]})
