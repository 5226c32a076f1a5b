"""The whole stack in containers. `make compose-test` runs it; it needs a Docker engine and some minutes.

One stack serves all tests, in this order. Prometheus runs on the rules that ship, with shorter times.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from threading import Event
from typing import Any

import pytest

from tests.compose_stack import NEWER, OLDER, ROOT, STEPS_AT_THE_END, ComposeStack, engine_trouble, running
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

log = logging.getLogger(__name__)

MIX = [{"n": 1, "steps": 30}, {"n": 4, "steps": 20}, {"n": 2, "steps": 100}, {"n": 1, "steps": 250}]
NEW_FEATURE: dict[str, Any] = {"n": 1, "steps": 20, "sampler": "unipc"}  # of the newer version
MAX_UNFINISHED = 8
MAX_REPEATED = 0.02


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[ComposeStack]:
    trouble = engine_trouble()
    if trouble is not None:
        pytest.skip(f"no Docker engine ({trouble}): install Docker with Compose, and start it")
    with running(tmp_path_factory.mktemp("compose")) as stack:
        failed = request.session.testsfailed
        yield stack
        if request.session.testsfailed > failed:
            print(stack.compose("ps", "--all"), stack.compose("logs", "--tail", "100"), sep="\n")  # noqa: T201


def test_a_picture_comes_back(stack: ComposeStack) -> None:
    response = stack.api.post("/generate?n=2&steps=5&seed=1")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "image/png")


def test_both_workers_share_the_jobs(stack: ComposeStack) -> None:
    stack.finish([stack.submit(n=4, steps=20, seed=seed) for seed in range(8)])
    wait_until(
        lambda: len(stack.query("difuso_image_steps_total > 0")) == 2, timeout=20, description="both have made steps"
    )


def test_prometheus_reaches_the_api_and_every_worker(stack: ComposeStack) -> None:
    everything = [("difuso-api", "up"), ("difuso-worker", "up"), ("difuso-worker", "up"), ("prometheus", "up")]
    wait_until(lambda: stack.targets() == everything, timeout=20, description="every target is up")
    # While the workers loaded their models there was none, which is said in this copy of the configuration at once.
    wait_until(lambda: stack.firing() == set(), timeout=30, description="no alert fires")


def test_promtool_finds_nothing_to_mend_in_the_metrics(stack: ComposeStack) -> None:
    api, worker = stack.metrics(stack.container("api")), stack.metrics(stack.workers()[0])
    for metrics in (api, worker):
        assert stack.compose("exec", "-T", "prometheus", "promtool", "check", "metrics", stdin=metrics + "\n") == ""


def test_every_expression_of_the_dashboard_has_something_to_show(stack: ComposeStack) -> None:
    assert stack.api.get("/nothing").status_code == 404
    assert stack.api.post("/generate?steps=5").status_code == 200
    panels = json.loads((ROOT / "docker/grafana/dashboards/difuso.json").read_text())["panels"]
    assert sum(panel["type"] == "row" for panel in panels) == 6
    expressions = {target["expr"] for panel in panels for target in panel.get("targets", ())}
    assert len(expressions) > 20

    def empty() -> list[str]:
        found = {text: stack.query(text.replace("$__rate_interval", "5m")) for text in expressions}
        return [text for text, vector in found.items() if all(sample["value"][1] == "NaN" for sample in vector)]

    wait_until(lambda: not empty(), timeout=30, description="every expression gives numbers")


def test_the_processes_have_no_rights_and_no_secrets(stack: ComposeStack) -> None:
    for service in ("api", "worker"):
        assert stack.compose("exec", "-T", service, "id", "-u") == "10001"
        for path in ("/probe", "/opt/difuso/probe", "/run/redis-auth/probe"):
            with pytest.raises(AssertionError, match=r"Read-only|Permission denied"):
                stack.compose("exec", "-T", service, "touch", path)
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        stack.compose("exec", "-T", "api", "python", "-c", "import torch")
    with pytest.raises(AssertionError, match="NOAUTH"):
        stack.compose("exec", "-T", "redis", "sh", "-c", "redis-cli ping | grep PONG || redis-cli ping >&2; exit 1")
    password = stack.compose("exec", "-T", "api", "cat", "/run/redis-auth/password")
    assert len(password) == 64
    containers = stack.compose("ps", "--all", "--quiet").split()
    assert password not in stack.docker("inspect", *containers)
    assert not any("6379/tcp" in line and "->" in line for line in stack.compose("ps", "redis").splitlines())


def test_an_alert_fires_while_no_worker_lives_and_clears_after(stack: ComposeStack) -> None:
    stack.compose("stop", "worker")
    wait_until(lambda: stack.firing() == {"DifusoNoWorker"}, timeout=60, description="the alert fires")
    stack.up()
    wait_until(lambda: not stack.firing(), timeout=60, description="the alert has cleared")


@contextmanager
def load(stack: ComposeStack, mix: Sequence[dict[str, Any]]) -> Iterator[dict[str, int]]:
    """Keeps some jobs unfinished meanwhile, and waits for all at the end; yields their image-steps by their ids."""
    jobs: dict[str, int] = {}
    over = Event()

    def post() -> None:
        unfinished: list[str] = []
        for number, request in enumerate(cycle(mix)):
            if over.is_set():
                return
            job_id = stack.submit(**request, seed=number)
            jobs[job_id] = request["n"] * request["steps"]
            unfinished.append(job_id)

            def has_room() -> bool:
                states = dict(zip(unfinished, stack.states(unfinished), strict=True))
                unfinished[:] = [job_id for job_id, state in states.items() if state in ("queued", "running")]
                return len(unfinished) < MAX_UNFINISHED or over.is_set()

            wait_until(has_room, timeout=120, description="a job has ended")

    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(post)
        try:
            yield jobs
        finally:
            over.set()
        posting.result()
    stack.finish([*jobs])


def wait_until_busy(stack: ComposeStack) -> None:
    wait_until(lambda: stack.query("sum(difuso_jobs_in_flight) > 3"), timeout=60, description="the workers are busy")


def test_workers_replaced_under_load_lose_no_job_and_repeat_hardly_a_step(stack: ComposeStack) -> None:
    def of_live_workers() -> int:
        found = [re.search(r"^difuso_image_steps_total{.*} (\S+)$", stack.metrics(w), re.M) for w in stack.workers()]
        return sum(int(float(match[1])) for match in found if match)

    def of_ended_workers(log: str) -> int:
        return sum(map(int, STEPS_AT_THE_END.findall(log)))

    before = of_live_workers() + of_ended_workers(stack.log_of_workers())
    old_workers, logs = stack.workers(), ""
    with load(stack, MIX) as jobs:
        for worker in old_workers:
            wait_until_busy(stack)
            logs += stack.replace(worker)
    new_workers = stack.workers()
    assert len(new_workers) == 2
    assert not {*new_workers} & {*old_workers}
    handed_over = logs.count("handed back")
    assert handed_over, "no job was on its way when its worker had to go"
    asked = sum(jobs.values())
    repeated = (of_live_workers() + of_ended_workers(logs) - before - asked) / asked
    log.info("%d jobs, %d handed over; %d image-steps, %.2f %% repeated", len(jobs), handed_over, asked, 100 * repeated)
    assert 0 <= repeated <= MAX_REPEATED


def test_what_was_accepted_and_what_was_made_survive_down_and_up(stack: ComposeStack) -> None:
    made = stack.submit(n=1, steps=10, seed=3)
    stack.finish([made])
    picture = stack.api.get(f"/jobs/{made}/image").content
    stack.compose("stop", "worker")
    waiting = [stack.submit(n=1, steps=20, seed=seed) for seed in range(5)]
    stack.compose("down")
    stack.up()
    assert stack.api.get(f"/jobs/{made}/image").content == picture
    stack.finish(waiting)


@pytest.mark.parametrize("order", [("api", "worker"), ("worker", "api")], ids="-then-".join)
def test_an_upgrade_and_its_rollback_lose_no_job_in_either_order(stack: ComposeStack, order: tuple[str, str]) -> None:
    """Nothing but the new feature is refused, with Retry-After, while a newer API has older workers only."""
    stack.counting.answers.clear()
    with load(stack, MIX) as jobs:
        with load(stack, [NEW_FEATURE]) as new:
            stack.choose(NEWER)
            for service in order:
                wait_until_busy(stack)
                stack.roll(service)
                if order == ("api", "worker") and service == "api":
                    refused = stack.api.post("/generate", params=NEW_FEATURE)
                    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not-understood")
                    assert refused.headers["Retry-After"]
            stack.finish([stack.submit(**NEW_FEATURE)])
        stack.choose(OLDER)
        for service in order:
            wait_until_busy(stack)
            stack.roll(service)
    answers = dict(stack.counting.answers)
    log.info("%d jobs, and %d with the new feature; answers by status: %s", len(jobs), len(new), answers)
    assert {*answers} <= {0, 200, 202, 503}, "0 while the container of the API is replaced"


def test_after_a_rollback_a_job_that_needs_the_newer_version_waits_for_it(stack: ComposeStack) -> None:
    stack.choose(NEWER)
    stack.up()
    job_id = stack.submit(n=4, steps=1000, sampler="unipc")
    stack.choose(OLDER)
    stack.up()
    stack.finish([stack.submit(n=1, steps=20, seed=seed) for seed in range(4)])
    answer = stack.api.get(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/job-is-newer")
    assert answer.headers["Retry-After"]
    wait_until(lambda: stack.query('sum(difuso_rq_jobs{status="queued"}) == 1'), timeout=20, description="it waits")
    stack.choose(NEWER)
    stack.up()
    stack.finish([job_id])
