"""Operators hold back models and workers, and move jobs; whoever is none may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rq.job import Job as RqJob
from typer.testing import CliRunner

from difuso import cli
from difuso.app.settings import ApiSettings
from difuso.jobs.contract import JobState
from tests.app_server import ALICE, OPERATOR, FakeWorker, keys_file, running
from tests.waiting import wait_until
from tests.worker_stack import Stack

ASYNC = {"Prefer": "respond-async"}
ROUTES = [
    ("GET", "/fleet"),
    *((method, path) for method in ("PUT", "DELETE") for path in ("/fleet/paused/tiny", "/fleet/cordoned/fake")),
]


def hear(stack: Stack, count: int) -> list[str]:
    """The names of so many workers, when each has looked at what is held back since this call."""
    with_reports = {each.name: each.at for each in stack.queue.workers()}

    def heard() -> list[str]:
        return sorted(each.name for each in stack.queue.workers() if each.at > with_reports.get(each.name, 0.0))

    wait_until(lambda: len(heard()) == count, 40, "the workers have reported")
    first = heard()
    with_reports |= {each.name: each.at for each in stack.queue.workers()}  # the look follows the report
    wait_until(lambda: heard() == first, 40, "the workers have reported again")
    return first


@pytest.mark.timeout(120)
def test_jobs_of_a_paused_model_wait_until_it_is_resumed(stack: Stack) -> None:
    stack.queue.hold("model", "tiny")
    stack.start_worker()
    job_id = stack.submit()
    hear(stack, 1)
    assert stack.states([job_id]) == {JobState.QUEUED}
    stack.queue.let_go("model", "tiny")
    wait_until(lambda: stack.states([job_id]) == {JobState.SUCCEEDED}, 40, "the job is drawn")


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_cordoned_worker_finishes_what_it_has_and_claims_nothing_more(stack: Stack) -> None:
    stack.start_worker()
    (first,) = hear(stack, 1)
    long = stack.submit(steps=1000, n=16)
    wait_until(lambda: stack.states([long]) == {JobState.RUNNING}, 40, "the worker has a job")
    stack.queue.hold("worker", first)
    hear(stack, 1)
    stack.start_worker()
    (other,) = {*hear(stack, 2)} - {first}
    later = [stack.submit(seed=seed) for seed in range(3)]
    wait_until(lambda: stack.states([long, *later]) == {JobState.SUCCEEDED}, 60, "all jobs are drawn")
    records = {job_id: stack.client.hget(RqJob.key_for(job_id), "worker_name") for job_id in (long, *later)}
    assert records == {long: first.encode(), **dict.fromkeys(later, other.encode())}
    stack.queue.hold("worker", other)
    stack.queue.let_go("worker", first)
    hear(stack, 2)
    back = stack.submit(seed=9)
    wait_until(lambda: stack.states([back]) == {JobState.SUCCEEDED}, 40, "the first worker draws again")
    assert stack.client.hget(RqJob.key_for(back), "worker_name") == first.encode()


@pytest.fixture
def api(settings: ApiSettings, tmp_path: Path) -> Iterator[httpx.Client]:
    with running(settings.model_copy(update={"api_keys_file": keys_file(tmp_path)})) as api:
        yield api


def test_an_operator_sees_the_fleet_and_others_do_not(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(rate=12.5)
    for method, path in ROUTES:
        assert api.request(method, path, headers=ALICE).status_code == 403
        assert api.request(method, path).status_code == 401
    api.post("/generate", headers=ALICE | ASYNC)
    for path in ("/fleet/paused/tiny", "/fleet/cordoned/fake"):
        assert api.put(path, headers=OPERATOR).status_code == 204
    fleet = api.get("/fleet", headers=OPERATOR).json()
    (found,), (queue,) = fleet["workers"], fleet["queues"]
    assert (found["name"], found["cordoned"], found["models"][0]["rate"]) == ("fake", True, 12.5)
    assert (queue["model"], queue["queued"], queue["running"], fleet["paused"]) == ("tiny", 1, 0, ["tiny"])
    for path in ("/fleet/paused/tiny", "/fleet/cordoned/fake"):
        assert api.delete(path, headers=OPERATOR).status_code == 204
    fleet = api.get("/fleet", headers=OPERATOR).json()
    assert (fleet["workers"][0]["cordoned"], fleet["paused"]) == (False, [])
    for path in ("/fleet/paused/unknown", "/fleet/cordoned/unknown"):
        assert api.put(path, headers=OPERATOR).status_code == 404


def test_an_operator_moves_a_job_to_the_head_of_its_queue(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report()
    jobs = [api.post("/generate", headers=ALICE | ASYNC).json()["id"] for _ in range(3)]
    assert api.post(f"/jobs/{jobs[2]}/first", headers=ALICE).status_code == 403
    assert api.post(f"/jobs/{jobs[2]}/first", headers=OPERATOR).status_code == 204
    places = [api.get(f"/jobs/{each}", headers=ALICE).json()["position"] for each in jobs]
    assert sorted(places) == [places[2], places[0], places[1]]
    worker.start(jobs[0])
    assert api.post(f"/jobs/{jobs[0]}/first", headers=OPERATOR).status_code == 409


def test_the_command_does_the_same(api: httpx.Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.report(rate=12.5)
    monkeypatch.setenv("DIFUSO_API_KEY", "oscar-key")
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: str) -> str:
        result = CliRunner().invoke(cli.app, ["fleet", "--server", str(api.base_url), *words])
        assert result.exit_code == 0, result.output
        return result.output

    said = run("--pause", "tiny", "--cordon", "fake")
    assert "tiny (paused)" in said
    assert "fake (cordoned)" in said
    assert "12" in said
    assert "(" not in run("--resume", "tiny", "--uncordon", "fake").replace("(s)", "")
