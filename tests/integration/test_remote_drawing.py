"""Many images from a server: how many jobs wait at a time, and what becomes of jobs that end without images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from difuso import Client
from difuso.app.settings import ApiSettings
from difuso.client import Job
from difuso.drawing.remote_drawing import IN_FLIGHT, ServedModel, ServedView, served_model
from difuso.errors import UserError
from difuso.jobs.contract import FailureCode
from difuso.jobs.params import SamplingParams
from difuso.jobs.queries import SamplingQuery
from tests.app_server import FakeWorker
from tests.waiting import wait_until


@pytest.fixture
def settings(settings: ApiSettings, tmp_path: Path) -> ApiSettings:
    """With an empty store for each test: the ids of the jobs follow from what they draw."""
    return settings.model_copy(update={"store_url": str(tmp_path / "store")})


@pytest.fixture
def client(api: httpx.Client) -> Iterator[Client]:
    with Client(str(api.base_url)) as client:
        yield client


def view_of(client: Client, **changes: Any) -> ServedView:
    (facts,) = client.models()["models"]
    return ServedView.model_validate({**facts, **changes})


@pytest.fixture
def model(api: httpx.Client, client: Client) -> ServedModel:
    return ServedModel(str(api.base_url), view_of(client), tag="bulk")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def runs_of(model: ServedModel, *seeds: list[int]) -> list[SamplingParams]:
    """Runs of two images from one seed, or of one image for each of several."""
    return [
        model.settle(SamplingQuery.model_validate({"n": max(2, len(each)), "steps": 5, "seed": each})) for each in seeds
    ]


def draw(model: ServedModel, runs: Sequence[SamplingParams]) -> dict[int, int]:
    """The number of images of each run, by its first seed."""
    kept: dict[int, int] = {}

    def keep(number: int, pngs: Sequence[bytes]) -> None:
        kept[runs[number].seed_of(0)] = len(pngs)

    model.draw(runs, keep, {})
    return kept


def unfinished(client: Client) -> list[Job]:
    return [job for job in client.jobs(tag="bulk") if job.state in ("queued", "running")]


def the_job(client: Client) -> Job:
    """The only unfinished job, when there is one."""
    wait_until(lambda: unfinished(client), timeout=20, description="there is a job")
    (job,) = unfinished(client)
    return job


def end_of(future: Future[dict[int, int]]) -> dict[int, int]:
    return future.result(timeout=20)


def test_the_server_settles_a_run_and_says_what_is_wrong_with_it(model: ServedModel) -> None:
    assert model.settle(SamplingQuery.model_validate({"n": 3, "seed": [5], "steps": 7})) == SamplingParams(
        n=3, seed=5, sampler="ddim", steps=7, spacing="leading", eta=0, variance="fixed_small", clip="static"
    )
    with pytest.raises(UserError, match=r"^http://.*: label: Input should be omitted: tiny has no classes"):
        model.settle(SamplingQuery(label=["4"]))
    with pytest.raises(UserError, match="plan: Must be one of few"):
        model.settle(SamplingQuery(plan="many"))


def test_a_bounded_number_of_jobs_waits_and_everybody_may_overtake_them(
    client: Client, model: ServedModel, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    runs = runs_of(model, [10, 12, 9, 8], [20, 22, 24], [30], [40, 42], [50])
    drawing = pool.submit(draw, model, runs)
    wait_until(lambda: len(unfinished(client)) == IN_FLIGHT, timeout=20, description="the first jobs wait")
    most = 0
    while not drawing.done():
        wait_until(lambda: drawing.done() or unfinished(client), timeout=20, description="there are jobs, or the end")
        jobs = unfinished(client)
        most = max(most, len(jobs))
        for job in jobs[-1:]:
            worker.succeed(job.id)
    assert end_of(drawing) == {10: 4, 20: 3, 30: 2, 40: 2, 50: 2}
    assert most == IN_FLIGHT
    jobs = [*client.jobs()]
    assert len(jobs) == 5
    assert {job.facts["urgency"] for job in jobs} == {7}
    assert draw(model, runs) == end_of(drawing)
    assert len([*client.jobs()]) == 5  # each was found again


def test_a_job_that_fails_ends_the_command_and_the_next_command_tries_again(
    client: Client, model: ServedModel, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    runs = runs_of(model, [10])
    for code, reason in ((FailureCode.NONFINITE, "NaN or infinity"), (FailureCode.INTERNAL, "The worker failed")):
        drawing = pool.submit(draw, model, runs)
        worker.fail(the_job(client).id, code)
        with pytest.raises(UserError, match=f"^http://127.* is failed: .*{reason}"):
            end_of(drawing)
    drawing = pool.submit(draw, model, runs)
    worker.succeed(the_job(client).id)
    assert end_of(drawing) == {10: 2}
    assert [job.state for job in client.jobs()] == ["succeeded", "failed", "failed"]


def test_images_that_are_gone_are_drawn_again(
    client: Client, model: ServedModel, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    runs = runs_of(model, [10])
    drawing = pool.submit(draw, model, runs)
    first = the_job(client)
    worker.succeed(first.id)
    end_of(drawing)
    client.job(first.id).delete_images()
    drawing = pool.submit(draw, model, runs)
    worker.succeed(the_job(client).id)
    assert end_of(drawing) == {10: 2}


def test_a_job_that_redis_lost_is_made_again(
    client: Client, model: ServedModel, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    drawing = pool.submit(draw, model, runs_of(model, [10]))
    lost = the_job(client).id
    worker.client.flushall()
    wait_until(lambda: unfinished(client), timeout=20, description="the job is there again")
    assert the_job(client).id == lost
    worker.succeed(lost)
    assert end_of(drawing) == {10: 2}


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({"version": "cd" * 32}, "has another version of tiny now"),
        ({"precision": "bfloat16"}, "computes tiny in float32 now"),
    ],
)
def test_images_of_another_version_or_number_format_are_refused(
    api: httpx.Client,
    client: Client,
    worker: FakeWorker,
    pool: ThreadPoolExecutor,
    before: dict[str, str],
    said: str,
) -> None:
    model = ServedModel(str(api.base_url), view_of(client, **before), tag="bulk")
    drawing = pool.submit(draw, model, runs_of(model, [10]))
    worker.succeed(the_job(client).id)
    with pytest.raises(UserError, match=said):
        end_of(drawing)


def test_a_model_is_found_by_name(api: httpx.Client, client: Client, worker: FakeWorker) -> None:
    url = str(api.base_url)
    assert served_model(None, url).name == served_model("tiny", url).name == "tiny"
    with pytest.raises(UserError, match="model: Input should be one of tiny"):
        served_model("nobody", url)
    worker.report(ready=False, reason="too large")
    with pytest.raises(UserError, match="This model cannot be used: too large"):
        served_model(None, url)
