"""Every problem of the server is an error of the client."""

from __future__ import annotations

import httpx
import pytest

from difuso.app.http import problems
from difuso.client import DifusoError, JobFailed, LimitReached, Overloaded, Unauthorized, Unavailable
from difuso.client.errors import ERRORS, error_of


def problem(slug: str, status: int, headers: dict[str, str] | None = None, **extensions: object) -> httpx.Response:
    content = {"type": f"/problems/{slug}", "title": "T", "status": status, "detail": "Why.", **extensions}
    return httpx.Response(status, json=content, headers={"Content-Type": problems.MEDIA_TYPE, **(headers or {})})


def test_every_type_of_problem_has_an_error() -> None:
    types = {each.slug for each in (*problems.PROBLEMS.values(), *problems.HTTP.values())}
    assert types | {"queue-full", "malformed-request", "http-error"} == ERRORS.keys()


def test_an_error_has_the_problem_and_says_its_detail() -> None:
    wrong = [{"detail": "No.", "parameter": "n"}]
    error = error_of(problem("invalid-request", 422, errors=wrong, request_id="07"))
    assert str(error) == "Why."
    assert error.problem is not None
    assert (error.problem.status, error.problem.errors, error.problem.request_id) == (422, tuple(wrong), "07")


def test_a_failed_job_says_its_code_and_is_not_tried_again() -> None:
    error = error_of(problem("job-failed", 504, code="timeout"))
    assert type(error) is JobFailed
    assert error.problem is not None
    assert error.problem.code == "timeout"
    assert not error.may_pass


def test_a_limit_says_when_to_come_back() -> None:
    error = error_of(problem("limit-reached", 429, {"Retry-After": "7"}))
    assert isinstance(error, LimitReached)
    assert error.retry_after == 7.0
    assert error.may_pass


def test_texts_of_a_problem_can_be_printed() -> None:
    error = error_of(problem("overloaded", 429, detail="\x1b[2J\u202e", title=["x"], errors=[{"\x07": 1}]))
    assert isinstance(error, Overloaded)
    assert error.problem is not None
    assert str(error).startswith("\\x1b[2J\\u202e")
    assert error.problem.errors == ({"\\x07": "1"},)
    assert str(DifusoError("\x9b1m")) == "\\x9b1m"
    for content in (b"{", b"\xff"):
        answer = httpx.Response(
            503,
            headers={"Content-Type": problems.MEDIA_TYPE},
            content=content,
            request=httpx.Request("GET", "http://localhost/jobs"),
        )
        assert type(error_of(answer)) is Unavailable


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (429, Overloaded), (502, Unavailable), (503, Unavailable), (418, DifusoError)],
)
def test_an_answer_of_something_before_the_server_is_known_by_its_status(status: int, kind: type[DifusoError]) -> None:
    request = httpx.Request("GET", "http://proxy/jobs")
    error = error_of(httpx.Response(status, text="<html>", request=request, headers={"Retry-After": "tomorrow"}))
    assert type(error) is kind
    assert str(error).startswith(f"http://proxy/jobs answered {status}")
    assert error.retry_after is None


def test_a_problem_of_a_proxy_may_lack_what_ours_have() -> None:
    """RFC 9457 demands none of the members."""
    answer = httpx.Response(
        503,
        headers={"Content-Type": "application/problem+json"},
        content="{}",
        request=httpx.Request("GET", "http://localhost/jobs"),
    )
    error = error_of(answer)
    assert isinstance(error, Unavailable)
    assert str(error) == "http://localhost/jobs answered 503"


def test_a_problem_of_a_newer_server_is_known_by_its_status() -> None:
    assert type(error_of(problem("too-early-for-this", 503))) is Unavailable
