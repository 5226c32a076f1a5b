from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from difuso.app import errors
from difuso.app.http.metrics import Metrics
from difuso.app.http.middleware import Failures, RequestMiddleware
from difuso.app.http.problems import FAILURES, PROBLEMS, answer
from difuso.jobs import errors as jobs_errors
from difuso.jobs.contract import FailureCode
from difuso.model.errors import PlanError

REQUEST = Request(
    {"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b"", "server": ("h", 1)}
)


def leaves(base: type[Exception]) -> list[type[Exception]]:
    return [base, *(leaf for child in base.__subclasses__() for leaf in leaves(child))]


OURS = [each for base in (jobs_errors.JobsError, errors.AppError) for each in leaves(base)[1:]]


# A worker's own errors are there if another test has loaded it; the front end never meets them.
@pytest.mark.parametrize("kind", [each for each in OURS if not each.__module__.startswith("difuso.worker.")])
def test_every_error_has_a_problem_of_its_own(kind: type[Exception]) -> None:
    assert kind in PROBLEMS
    assert PROBLEMS[kind].status != 500 or kind is errors.JobFailed


def test_every_failure_code_has_a_status() -> None:
    assert set(FAILURES) == set(FailureCode)
    response = answer(REQUEST, errors.JobFailed(FailureCode.TIMEOUT))
    assert response.status_code == 504
    assert json.loads(bytes(response.body))["code"] == "timeout"


def test_a_problem_has_the_members_of_the_rfc_and_no_internals() -> None:
    response = answer(REQUEST, ValueError("/etc/secret"))
    problem = json.loads(bytes(response.body))
    assert response.media_type == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance"} <= set(problem)
    assert problem["type"] == "/problems/internal"
    assert "secret" not in str(problem)


def test_a_run_that_does_not_exist_names_its_parameter_and_does_not_repeat_its_value() -> None:
    response = answer(REQUEST, PlanError("must lie between 1 and 500", "steps", got=700))
    problem = json.loads(bytes(response.body))
    assert (response.status_code, problem["type"]) == (422, "/problems/invalid-request")
    assert problem["errors"] == [{"detail": "Must lie between 1 and 500", "parameter": "steps"}]
    assert "700" not in str(problem)


def test_retry_after_is_a_header_too() -> None:
    response = answer(REQUEST, errors.Overloaded("busy", retry_after=17))
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "17"


async def _fail(*_: object) -> None:
    raise RuntimeError("/etc/secret")


def test_an_unforeseen_error_is_logged_once_under_the_id_that_the_caller_sees(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    middleware = RequestMiddleware(Failures(_fail), Metrics(CollectorRegistry()))
    asyncio.run(middleware(dict(REQUEST.scope), _fail, send))  # type: ignore[arg-type]
    problem = json.loads(sent[1]["body"])  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    assert "secret" not in str(problem)
    failed = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [(record.message, vars(record)["request_id"]) for record in failed] == [
        ("a request failed", problem["request_id"])
    ]


def test_an_error_at_the_start_ends_the_server() -> None:
    middleware = RequestMiddleware(Failures(_fail), Metrics(CollectorRegistry()))
    with pytest.raises(RuntimeError, match="secret"):
        asyncio.run(middleware({"type": "lifespan", "state": {}}, _fail, _fail))  # type: ignore[arg-type]


def test_the_front_end_never_loads_torch() -> None:
    check = "import difuso.app.main, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
