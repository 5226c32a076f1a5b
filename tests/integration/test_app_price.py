"""`dry_run=true` over HTTP: the price of a request of every kind, and that nothing is left of it on a real Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from PIL import Image

from difuso.app.settings import ApiSettings
from difuso.jobs.redis import keys
from tests.app_server import ALICE, BOB, FakeWorker, keys_file, running
from tests.pictures import saved

ASYNC = {"Prefer": "respond-async"}
DRY: dict[str, Any] = {"dry_run": "true"}
PICTURE = saved(Image.linear_gradient("L").resize((16, 16)).convert("RGB"), "PNG")
MASK = saved(Image.new("L", (16, 16), 255), "PNG")

# Of each kind: the query, the parts of the body, the image-steps and the number of images in the answer.
CASES: dict[str, tuple[dict[str, Any], dict[str, bytes], int, int]] = {
    "generate": ({"n": 2, "steps": 5}, {}, 10, 2),
    "interpolate": (
        {"lambda": [0.25, 0.5, 0.75], "mode": "ddim", "steps": 5},
        {"image_a": PICTURE, "image_b": MASK},
        3 * 5 + 2 * 4,
        3,
    ),
    "denoise": ({"n": 3, "average": "true", "sigma": 20, "steps": 5}, {"image": PICTURE}, 15, 1),
    "restore": ({"task": "inpaint", "steps": 5}, {"image": PICTURE, "mask": MASK}, 5, 1),
}


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"max_jobs": 5})


def post(api: httpx.Client, kind: str, query: dict[str, Any], files: dict[str, bytes], **more: Any) -> httpx.Response:
    headers: dict[str, str] = ASYNC | more.get("headers", {})
    return api.post(f"/{kind}", params=query, files=files or None, headers=headers)


def price(api: httpx.Client, kind: str = "generate", **query: Any) -> dict[str, Any]:
    answer = api.post(f"/{kind}", params=query | DRY)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def contents(client: redis.Redis, settings: ApiSettings) -> dict[str, Any]:
    """Every key of Redis with its value, the number of its writes, and every file of the store."""
    values: dict[str, Any] = {repr(key): client.dump(key) for key in client.scan_iter()}
    writes = client.info("persistence")["rdb_changes_since_last_save"]
    files = sorted(str(path) for path in Path(settings.store_url).rglob("*") if path.is_file())
    return values | {"writes": writes, "files": files}


@pytest.mark.parametrize("kind", CASES)
def test_the_price_is_that_of_the_job_and_leaves_nothing_behind(
    api: httpx.Client, settings: ApiSettings, worker: FakeWorker, kind: str
) -> None:
    query, files, image_steps, images = CASES[kind]
    worker.report(ready=True, rate=10.0)
    before = contents(worker.client, settings)
    answer = post(api, kind, query | DRY, files)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert not {"x-job-id", "location", "preference-applied", "ratelimit"} & set(answer.headers)
    assert contents(worker.client, settings) == before
    assert api.get("/jobs").json() == {"jobs": []}
    assert f'difuso_jobs_accepted_total{{kind="{kind}",model="tiny"}} 0.0' in api.get("/metrics").text
    found = answer.json()
    assert (found["kind"], found["model"]) == (kind, "tiny")
    assert (found["image_steps"], found["images"]) == (image_steps, images)
    assert found["seconds"] == found["eta_seconds"] == image_steps / 10
    job = post(api, kind, query | {"seed": found["params"]["seed"]}, files).json()
    assert job["steps"]["total"] == image_steps
    assert {name: job.get(name) for name in ("params", "task", "eta_seconds")} == {
        name: found.get(name) for name in ("params", "task", "eta_seconds")
    }


def test_without_a_seed_each_price_draws_one(api: httpx.Client) -> None:
    seeds = {price(api)["params"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert price(api, seed=7)["params"]["seed"] == 7


def test_the_forecast_is_that_of_the_job_if_it_were_queued_now(api: httpx.Client, worker: FakeWorker) -> None:
    assert (price(api)["seconds"], price(api)["eta_seconds"]) == (None, None)
    worker.report(ready=True, rate=10.0, step_seconds=0.5)
    first, _ = (post(api, "generate", {"n": 8, "steps": 10}, {}).json() for _ in range(2))
    worker.start(first["id"])
    found = price(api, n=2, steps=10)
    assert found["seconds"] == 10 * 0.5, "no image is faster than alone"
    assert found["eta_seconds"] == (20 + 20 + 80) / 10, "its own work, its share of what runs, and what waits"
    urgent = api.post("/generate", params={"n": 2, "steps": 10} | DRY, headers={"Priority": "u=0"}).json()
    queued = post(api, "generate", {"n": 2, "steps": 10}, {}).json()
    assert queued["eta_seconds"] == found["eta_seconds"]
    assert urgent["eta_seconds"] == found["seconds"], "less urgent jobs that wait do not delay it"


@pytest.mark.parametrize(
    ("kind", "query", "files", "headers"),
    [
        ("generate", {"n": 0, "sede": 1}, {}, {}),
        ("generate", {"label": "cat"}, {}, {}),
        ("generate", {"model": "nobody"}, {}, {}),
        ("generate", {"seed": [1, 2], "n": 3}, {}, {}),
        ("generate", {}, {}, {"Accept": "text/html"}),
        ("generate", {}, {}, {"Idempotency-Key": "x" * 256}),
        ("interpolate", {"lambda": 2}, {"image_a": PICTURE, "image_b": PICTURE}, {}),
        ("denoise", {}, {"image": PICTURE[:-20]}, {}),
        ("restore", {"task": "inpaint"}, {"image": PICTURE, "mask": saved(Image.new("L", (8, 8)), "PNG")}, {}),
    ],
)
def test_what_is_refused_is_refused_as_the_request_itself(
    api: httpx.Client, kind: str, query: dict[str, Any], files: dict[str, bytes], headers: dict[str, str]
) -> None:
    same_refusals(*(post(api, kind, query | dry, files, headers=headers) for dry in (DRY, {})))


def same_refusals(priced: httpx.Response, sent: httpx.Response) -> None:
    """Requires that both are the same problem, but for the id of the request."""
    assert sent.status_code >= 400
    assert priced.status_code == sent.status_code
    assert priced.headers["Content-Type"] == sent.headers["Content-Type"] == "application/problem+json"
    assert priced.json() | {"request_id": ""} == sent.json() | {"request_id": ""}
    assert priced.headers.get("Retry-After") == sent.headers.get("Retry-After")


def both(api: httpx.Client, headers: dict[str, str] | None = None, **query: Any) -> list[httpx.Response]:
    """The answers to a request with and without dry_run, in this order."""
    return [post(api, "generate", query | dry, {}, headers=headers or {}) for dry in (DRY, {})]


def test_a_full_queue_refuses_a_price(api: httpx.Client, worker: FakeWorker) -> None:
    for _ in range(5):
        post(api, "generate", {}, {})
    same_refusals(*both(api))


def test_what_is_not_true_or_false_is_refused_by_name(api: httpx.Client) -> None:
    for query in ({"dry_run": "perhaps"}, {"dry_run": ["true", "true"]}):
        answer = post(api, "generate", query, {})
        assert answer.status_code == 422
        assert [error["parameter"] for error in answer.json()["errors"]] == ["dry_run"]


def test_an_idempotency_key_is_neither_used_up_nor_looked_up(api: httpx.Client, worker: FakeWorker) -> None:
    mine = {"Idempotency-Key": "mine"}
    first, _ = both(api, mine, n=2)
    assert first.status_code == 200
    other = post(api, "generate", {"n": 3} | DRY, {}, headers=mine)
    assert (other.status_code, other.json()["params"]["n"]) == (200, 3)
    same = post(api, "generate", {"n": 2, "dry_run": "false"}, {}, headers=mine)
    assert same.status_code == 202
    assert len(api.get("/jobs").json()["jobs"]) == 1, "dry_run is not a part of the request that the key stands for"


def test_a_price_is_json_at_once_whatever_the_request_prefers(api: httpx.Client) -> None:
    answer = api.post("/generate", params=DRY, headers={"Accept": "image/png", "Prefer": "wait=10"})
    assert answer.json()["kind"] == "generate"
    assert "Preference-Applied" not in answer.headers


class TestLimits:
    @pytest.fixture
    def settings(self, settings: ApiSettings, tmp_path: Path) -> ApiSettings:
        return settings.model_copy(update={"api_keys_file": keys_file(tmp_path, "rate=1 unfinished=100")})

    def test_a_price_takes_no_share_and_no_rate(
        self, api: httpx.Client, settings: ApiSettings, worker: FakeWorker
    ) -> None:
        job = post(api, "generate", {"steps": 5}, {}, headers=ALICE).json()["id"]
        worker.succeed(job)  # its share is kept until the next job is accepted, and counts no more
        before = contents(worker.client, settings)
        for _ in range(5):
            answer = post(api, "generate", {"steps": 60} | DRY, {}, headers=ALICE)
            assert answer.status_code == 200
            assert '"unfinished";r=100' in answer.headers["RateLimit"]
        assert contents(worker.client, settings) == before
        assert post(api, "generate", {"steps": 100}, {}, headers=ALICE).status_code == 202
        assert job.encode() not in worker.client.hkeys(keys.shares("alice"))

    def test_limits_that_are_reached_refuse_a_price(self, api: httpx.Client) -> None:
        same_refusals(*both(api, ALICE, n=2, steps=51))
        assert post(api, "generate", {"steps": 50}, {}, headers=ALICE).status_code == 202
        priced, sent = both(api, ALICE, steps=51)
        same_refusals(priced, sent)
        assert priced.headers["RateLimit-Policy"] == sent.headers["RateLimit-Policy"]
        for answer in both(api, BOB, steps=51):
            assert answer.is_success

    def test_a_rate_that_is_reached_refuses_a_price(self, settings: ApiSettings, tmp_path: Path) -> None:
        with running(settings.model_copy(update={"api_keys_file": keys_file(tmp_path, "rate=0.001")})) as api:
            assert post(api, "generate", {"steps": 50}, {}, headers=ALICE).status_code == 202
            priced, sent = both(api, ALICE, steps=1)
            for answer in (priced, sent):
                assert (answer.status_code, answer.json()["type"]) == (429, "/problems/limit-reached")
            assert priced.json()["detail"] == sent.json()["detail"]

    def test_a_stranger_gets_no_price(self, api: httpx.Client) -> None:
        same_refusals(*both(api))
