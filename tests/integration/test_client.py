"""The Python client against the application on a real Redis, where each request can be made to go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import AsyncClient, Client, cli
from difuso.app.settings import ApiSettings
from difuso.client import (
    InvalidRequest,
    JobFailed,
    LimitReached,
    NotFound,
    NotReady,
    Price,
    ResultExpired,
    TimedOut,
    Unauthorized,
)
from difuso.errors import UserError
from difuso.jobs.contract import FailureCode
from tests.app_server import FakeWorker, keys_file, running


class Unreliable(httpx.HTTPTransport):
    """The network, which loses the answers to some requests: the server has done what they ask."""

    def __init__(self, is_lost: Callable[[httpx.Request, int], bool]) -> None:
        super().__init__()
        self.sent: list[str] = []
        self._is_lost = is_lost

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self.sent.append(request.method)
        if self._is_lost(request, len(self.sent)):
            response.close()
            raise httpx.ReadError("the answer is lost", request=request)
        return response


def test_a_post_whose_answers_are_lost_makes_one_job(api: httpx.Client, worker: FakeWorker) -> None:
    transport = Unreliable(lambda request, count: count <= 3)
    with Client(str(api.base_url), transport=transport) as client:
        job = client.submit("generate", n=2)
        assert transport.sent == ["POST"] * 4
        assert [each.id for each in client.jobs()] == [job.id]
    assert worker.client.keys("rq:job:*") == [f"rq:job:{job.id}".encode()]


def test_a_job_that_fails_is_an_error_with_its_code(api: httpx.Client, worker: FakeWorker) -> None:
    with Client(str(api.base_url)) as client:
        job = client.submit("generate")
        worker.fail(job.id, FailureCode.TIMEOUT)  # over HTTP a 504, as of a proxy that lost its patience
        assert job.wait(10).state == "failed"
        with pytest.raises(JobFailed) as caught:
            job.images()
    assert caught.value.problem is not None
    assert caught.value.problem.code == "timeout"


def test_a_wait_that_takes_too_long_leaves_the_job_alone(api: httpx.Client, worker: FakeWorker) -> None:
    with Client(str(api.base_url), timeout=1) as client:
        job = client.submit("generate")
        with pytest.raises(TimedOut) as caught:
            job.wait(0)
        assert caught.value.job_id == job.id
        assert job.refresh().state == "queued"
        with pytest.raises(TimedOut) as caught:  # but a job that nobody can ask for ends with its wait
            client.generate()
        assert client.job(caught.value.job_id).state == "cancelled"


def test_the_list_of_jobs_goes_on_over_all_its_parts(api: httpx.Client, worker: FakeWorker) -> None:
    with Client(str(api.base_url)) as client:
        made = [client.submit("generate", tag="odd" if index % 2 else "even").id for index in range(45)]
        for job_id in made[:3]:
            worker.succeed(job_id)
        assert [job.id for job in client.jobs()] == made[::-1]
        assert [job.id for job in client.jobs(tag="odd")] == made[1::2][::-1]
        assert [job.id for job in client.jobs(state="succeeded", kind="generate", model="tiny")] == made[2::-1]
        assert list(client.jobs(kind="denoise")) == []
        newest = next(client.jobs())
        assert newest.cancel().state == "cancelled"

    async def listed() -> list[str]:
        async with AsyncClient(str(api.base_url)) as client:
            return [job.id async for job in client.jobs(tag="even")]

    assert asyncio.run(listed()) == made[::2][::-1]


def test_the_images_of_a_job_can_be_deleted_before_their_time(api: httpx.Client, worker: FakeWorker) -> None:
    with Client(str(api.base_url)) as client:
        job = client.submit("generate")
        with pytest.raises(NotReady):
            job.delete_images()
        worker.succeed(job.id)
        assert len(job.images()) == 1
        assert job.delete_images().state == "succeeded"
        with pytest.raises(ResultExpired):
            job.images()


def test_a_price_names_the_seed_whose_images_it_is_for(api: httpx.Client, worker: FakeWorker) -> None:
    image = Image.new("RGB", (20, 10), "red")
    with Client(str(api.base_url)) as client:
        unknown = client.price("denoise", image, sigma=20, n=2, steps=5, average=True)
        assert (unknown.image_steps, unknown.images, unknown.seconds, unknown.eta_seconds) == (10, 1, None, None)
        assert list(client.jobs()) == []
        worker.report(ready=True, rate=10.0)
        price = client.price("restore", image, task="colorize", steps=5)
        job = client.submit("restore", image, task="colorize", steps=5, seed=price.params["seed"])
        with pytest.raises(InvalidRequest):
            client.price("generate", steps=1001)
    assert (price.params, price.task) == (job.facts["params"], job.facts["task"])
    assert price.seconds == price.eta_seconds == job.facts["eta_seconds"] == 0.5

    async def priced() -> Price:
        async with AsyncClient(str(api.base_url)) as client:
            return await client.price("generate", n=4, steps=10)

    assert asyncio.run(priced()).eta_seconds == (40 + 5) / 10


class TestKeys:
    @pytest.fixture
    def settings(self, settings: ApiSettings, tmp_path: Any) -> ApiSettings:
        return settings.model_copy(update={"api_keys_file": keys_file(tmp_path, "unfinished=100")})

    def test_a_client_sends_its_key(self, settings: ApiSettings) -> None:
        with running(settings) as api:
            url = str(api.base_url)
            with Client(url, api_key="alice-key", timeout=5) as alice, Client(url, api_key="bob-key") as bob:
                job = alice.submit("generate", steps=100)
                with pytest.raises(NotFound):
                    bob.job(job.id)
                with pytest.raises(LimitReached):
                    alice.submit("generate", steps=100)
            with Client(url) as nobody, pytest.raises(Unauthorized):
                nobody.models()

    def test_a_command_takes_its_key_from_the_environment(
        self, settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running(settings) as api:
            command = ["sample", "--server", str(api.base_url), "--steps", "1001"]
            with pytest.raises(UserError, match="Send a valid API key"):
                CliRunner().invoke(cli.app, command, catch_exceptions=False)
            monkeypatch.setenv("DIFUSO_API_KEY", "alice-key")
            with pytest.raises(UserError, match="steps: Must lie"):
                CliRunner().invoke(cli.app, command, catch_exceptions=False)
