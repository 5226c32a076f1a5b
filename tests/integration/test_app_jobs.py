"""A job's life as a client sees it, with a worker's part done by hand."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from PIL import Image

from difuso.app import store_access
from difuso.app.settings import ApiSettings
from difuso.jobs.contract import FailureCode
from difuso.jobs.redis.events import (
    POLL_SECONDS,
    RECONNECT_SECONDS,
    Listener,
    listener_channel,
    preview_channel,
    status_channel,
)
from difuso.jobs.redis.job_records import LISTENER
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.store.result_store import ResultStore
from tests.app_server import FakeWorker, running
from tests.pictures import saved
from tests.waiting import wait_until

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def queued(worker: FakeWorker) -> list[str]:
    ids: list[Any] = worker.client.lrange(worker.queue_key, 0, -1)
    return [job_id.decode() for job_id in ids]


def accept(api: httpx.Client, query: str = "", **headers: str) -> str:
    response = api.post(f"/generate{query}", headers={**ASYNC, **headers})
    assert response.status_code == 202
    return str(response.json()["id"])


def finish_the_waiting(worker: FakeWorker) -> str:
    job_id = await_a_waiter(worker)
    worker.succeed(job_id)
    return job_id


def await_a_waiter(worker: FakeWorker) -> str:
    """Returns the job that a request waits for."""
    wait_until(lambda: queued(worker), timeout=10, description="the job is queued")
    job_id = queued(worker)[0]
    wait_until(lambda: worker.is_awaited(job_id), timeout=10, description="the request waits for its job")
    return job_id


def test_a_post_waits_for_its_picture(api: httpx.Client, worker: FakeWorker, elsewhere: ThreadPoolExecutor) -> None:
    answer: Future[httpx.Response] = elsewhere.submit(api.post, "/generate?seed=7")
    job_id = finish_the_waiting(worker)
    response = answer.result()
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == (16, 16)
    assert response.headers["X-Job-Id"] == job_id
    assert response.headers["Content-Location"] == f"/jobs/{job_id}/image"
    timing = dict(part.split(";dur=") for part in response.headers["Server-Timing"].split(", "))
    assert set(timing) == {"queue", "denoise", "encode", "total"}
    assert float(timing["denoise"]) == 500.0


def test_a_wait_ends_with_the_message_that_announces_it(
    settings: ApiSettings, worker: FakeWorker, elsewhere: ThreadPoolExecutor
) -> None:
    """The job is not read again: its record still says that it runs."""
    # The message says that it ended in 1970.
    with running(settings.model_copy(update={"result_ttl": 10**10})) as api:
        answer = elsewhere.submit(api.post, "/generate?n=1")
        job_id = await_a_waiter(worker)
        worker.announce(job_id)
        response = answer.result()
        assert response.headers["Content-Type"] == "image/png"
        assert "total;dur=" in response.headers["Server-Timing"]
        assert api.get(f"/jobs/{job_id}").json()["state"] == "running"


def test_a_request_that_missed_the_end_of_its_job_is_answered_all_the_same(
    api: httpx.Client, worker: FakeWorker, elsewhere: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection on which its front end listens breaks just then. The next request hears at once again."""
    kill = lambda *message: worker.client.client_kill_filter(_type="pubsub")  # noqa: E731
    answer = elsewhere.submit(api.post, "/generate?seed=7")
    job_id = await_a_waiter(worker)
    channel = listener_channel(worker.client.hget(f"rq:job:{job_id}", LISTENER).decode())  # type: ignore[union-attr]
    with monkeypatch.context() as breaking:
        breaking.setattr(worker, "publish", kill)
        worker.succeed(job_id)
    response = answer.result(timeout=4 * POLL_SECONDS)
    assert (response.status_code, response.headers["X-Job-Id"]) == (200, job_id)
    assert response.content == api.get(response.headers["Content-Location"]).content
    wait_until(lambda: worker.client.pubsub_numsub(channel)[0][1] == 1, timeout=10, description="it listens again")
    answer = elsewhere.submit(api.post, "/generate?seed=7")
    job_id, began = await_a_waiter(worker), time.monotonic()
    worker.succeed(job_id)
    assert answer.result().headers["X-Job-Id"] == job_id
    assert time.monotonic() - began < POLL_SECONDS


def test_a_front_end_that_began_while_redis_was_away_hears_of_its_own_jobs(
    redis_url: str, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the first who follows a job subscribes before it tries again."""

    async def listeners() -> int:
        listener = Listener(redis_url)
        subscribe, failures = listener._pubsub.subscribe, iter([redis.ConnectionError()])

        async def fail_once(*channels: str) -> None:
            for error in failures:
                raise error
            await subscribe(*channels)

        monkeypatch.setattr(listener._pubsub, "subscribe", fail_once)
        await listener.start()
        await asyncio.sleep(RECONNECT_SECONDS / 4)
        try:
            async with listener.listen(status_channel("followed")):
                await asyncio.sleep(2 * RECONNECT_SECONDS)
                return int(worker.client.pubsub_numsub(listener_channel(listener.name))[0][1])
        finally:
            await listener.stop()

    assert asyncio.run(listeners()) == 1


def test_a_post_can_wait_for_the_job_instead_of_its_pictures(
    api: httpx.Client, worker: FakeWorker, elsewhere: ThreadPoolExecutor
) -> None:
    answer = elsewhere.submit(api.post, "/generate?n=2&seed=7", headers={"Accept": "application/json"})
    finish_the_waiting(worker)
    job = answer.result().json()
    assert job["state"] == "succeeded"
    assert job["steps"] == {"done": 100, "total": 100}
    assert job["timings"]["denoise"] == 0.5
    assert "timesteps" not in job
    assert len(job["links"]["images"]) == 2
    assert "eta_seconds" not in job
    assert job["expires_at"] > job["ended_at"] > job["accepted_at"]


def test_a_wait_that_ends_is_answered_with_the_job(api: httpx.Client) -> None:
    response = api.post("/generate?n=3&seed=5", headers={"Prefer": "wait=1", "Priority": "u=1"})
    job = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/jobs/{job['id']}"
    assert response.headers["Preference-Applied"] == "wait=1"
    assert int(response.headers["Retry-After"]) > 0
    assert (job["state"], job["position"], job["urgency"]) == ("queued", 0, 1)
    assert job["params"] | {"n": 3, "seed": 5, "steps": 50, "sampler": "ddim", "spacing": "leading"} == job["params"]
    assert "eta_seconds" not in job
    assert "timesteps" not in job


def test_the_pictures_of_a_job_come_in_each_format(api: httpx.Client, worker: FakeWorker) -> None:
    job_id = accept(api, "?n=3")
    assert api.get(f"/jobs/{job_id}/image").json()["type"] == "/problems/not-ready"
    worker.succeed(job_id)
    singles = [api.get(f"/jobs/{job_id}/images/{index}").content for index in range(3)]
    sheet = api.get(f"/jobs/{job_id}/image")
    assert Image.open(io.BytesIO(sheet.content)).size == (34, 34)
    archive = api.get(f"/jobs/{job_id}/image", headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(archive.content)) as pictures:
        assert [pictures.read(f"{index}.png") for index in range(3)] == singles
    for index, status in (("3", 404), ("64", 404), ("x", 422), ("9" * 5000, 422)):
        assert api.get(f"/jobs/{job_id}/images/{index}").status_code == status


def test_pictures_can_be_kept_and_asked_for_again(api: httpx.Client, worker: FakeWorker) -> None:
    job_id = accept(api, "?n=2")
    worker.succeed(job_id)
    for path in (f"/jobs/{job_id}/image", f"/jobs/{job_id}/images/1"):
        whole = api.get(path)
        assert whole.headers["Cache-Control"] == "private, no-cache"  # they may be deleted
        same = api.get(path, headers={"If-None-Match": f'"other", {whole.headers["ETag"]}'})
        assert (same.status_code, same.content) == (304, b"")
        head = api.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == str(len(whole.content))
        ranges = ",".join(f"{index}-{index}" for index in range(1000))
        assert api.get(path, headers={"Range": f"bytes={ranges}"}).content == whole.content
    as_json = {"Accept": "application/json"}
    tag = api.get(f"/jobs/{job_id}/image", headers=as_json).headers["ETag"]
    assert api.get(f"/jobs/{job_id}/image", headers=as_json | {"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    ("code", "status"), [(FailureCode.TIMEOUT, 504), (FailureCode.UNSUPPORTED, 501), (FailureCode.INTERNAL, 500)]
)
def test_a_failed_job_is_a_problem_with_its_code(
    api: httpx.Client, worker: FakeWorker, code: FailureCode, status: int
) -> None:
    job_id = accept(api, **{"Idempotency-Key": "k"})
    worker.fail(job_id, code)
    for response in (api.post("/generate", headers={"Idempotency-Key": "k"}), api.get(f"/jobs/{job_id}/image")):
        assert response.status_code == status
        assert (response.json()["type"], response.json()["code"]) == ("/problems/job-failed", code)
    assert api.get(f"/jobs/{job_id}").json()["failure"]["code"] == code


def test_timesteps_are_shown_to_those_who_ask_for_them(api: httpx.Client, worker: FakeWorker) -> None:
    job = f"/jobs/{accept(api)}"
    asked = {"timesteps": "true"}
    assert "timesteps" not in api.get(job, params=asked).json()
    worker.start(job.removeprefix("/jobs/"))
    shown = api.get(job, params=asked).json()
    assert shown.pop("timesteps") == [500, 0]
    assert shown == api.get(job).json() == api.get(job, params={"timesteps": "false"}).json()
    assert api.get(job, params={"timesteps": "some"}).status_code == 422


def test_the_pictures_of_a_job_are_deleted_at_once_and_for_good(
    api: httpx.Client, worker: FakeWorker, settings: ApiSettings
) -> None:
    upload = {"image": saved(Image.new("RGB", (16, 16)), "PNG")}
    other, job = (api.post("/denoise?n=2&sigma=20", files=upload, headers=ASYNC).json()["id"] for _ in range(2))
    early = api.delete(f"/jobs/{job}/images")
    assert (early.status_code, early.json()["type"]) == (409, "/problems/not-ready")
    assert int(early.headers["Retry-After"]) > 0
    for job_id in (other, job):
        worker.succeed(job_id)
    store = ResultStore(settings.store_url)
    manifest = store.manifest(job)
    assert manifest is not None
    for _ in range(2):
        assert api.delete(f"/jobs/{job}/images").status_code == 204
        for path in ("image", "images/0", "images/1"):
            gone = api.get(f"/jobs/{job}/{path}")
            assert (gone.status_code, gone.json()["type"]) == (410, "/problems/result-expired")
    assert not store.commit_all([manifest])[0]  # by a worker that seemed dead
    assert api.get(f"/jobs/{job}/image").status_code == 410
    kept = [path for path in Path(settings.store_url).rglob("*") if path.is_file() and job in str(path)]
    assert [path.read_bytes() for path in kept] == [b""]
    shown = api.get(f"/jobs/{job}").json()
    assert shown["state"] == "succeeded"
    assert set(shown["links"]) == {"self", "events"}
    assert shown["expires_at"] <= datetime.now(UTC).isoformat()
    assert api.get(f"/jobs/{other}/images/1").status_code == 200


def test_jobs_without_pictures_have_none_to_delete(api: httpx.Client, worker: FakeWorker) -> None:
    failed, cancelled = accept(api), accept(api)
    worker.fail(failed, FailureCode.INTERNAL)
    api.delete(f"/jobs/{cancelled}")
    for job_id, problem in ((failed, "job-failed"), (cancelled, "job-cancelled")):
        before = api.get(f"/jobs/{job_id}").json()
        assert "expires_at" not in before
        for _ in range(2):
            assert api.delete(f"/jobs/{job_id}/images").status_code == 204
        assert api.get(f"/jobs/{job_id}/image").json()["type"] == f"/problems/{problem}"
        after = api.get(f"/jobs/{job_id}").json()
        assert datetime.fromisoformat(after.pop("expires_at")).timestamp() <= time.time()
        assert after == before


def test_a_job_that_is_forgotten_meanwhile_leaves_no_record(worker: FakeWorker) -> None:
    JobQueue(worker.client, result_ttl=60).expire("00000000-0000-4000-8000-000000000000")
    assert not worker.client.keys("rq:job:*")


def test_a_queued_job_is_cancelled_at_once_and_again_changes_nothing(api: httpx.Client, worker: FakeWorker) -> None:
    job_id = accept(api)
    for _ in range(2):
        response = api.delete(f"/jobs/{job_id}")
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    assert queued(worker) == []
    assert api.get(f"/jobs/{job_id}/image").json()["type"] == "/problems/job-cancelled"


def test_a_finished_job_cannot_be_cancelled(api: httpx.Client, worker: FakeWorker) -> None:
    job_id = accept(api)
    worker.succeed(job_id)
    response = api.delete(f"/jobs/{job_id}")
    assert (response.status_code, response.json()["state"]) == (200, "succeeded")


def test_events_have_progress_previews_and_the_end(api: httpx.Client, worker: FakeWorker) -> None:
    job_id = accept(api)
    with api.stream("GET", f"/jobs/{job_id}/events") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        events = read_events(response)
        assert next(events)[1]["state"] == "queued"
        worker.start(job_id, done=20)
        assert next(events) == ("progress", {"state": "running", "steps": {"done": 20, "total": 50}})
        worker.publish(preview_channel(job_id), json.dumps({"index": 0, "image_steps": 20, "png": "aGk="}))
        assert next(events) == ("preview", {"index": 0, "image_steps": 20, "png": "aGk="})
        assert api.delete(f"/jobs/{job_id}").status_code == 202
        worker.cancel(job_id)
        name, job = next(events)
        assert (name, job["state"], job["id"]) == ("cancelled", "cancelled", job_id)
        assert "timesteps" not in job
        assert list(events) == []
    nobody_listens(worker)


def test_a_listener_that_comes_back_gets_what_is_new(api: httpx.Client, worker: FakeWorker) -> None:
    job_id = accept(api)
    path = f"/jobs/{job_id}/events"
    worker.start(job_id, done=20)
    with api.stream("GET", path) as response:
        first = next(read_blocks(response))
    nobody_listens(worker)
    assert (first["event"], first["retry"]) == ("progress", "3000")
    with api.stream("GET", path, headers={"Last-Event-ID": first["id"]}) as response:
        blocks = read_blocks(response)
        wait_until(
            lambda: worker.client.pubsub_numsub(preview_channel(job_id))[0][1] == 1,
            timeout=10,
            description="the stream listens",
        )
        worker.publish(preview_channel(job_id), json.dumps({"index": 0, "image_steps": 20, "png": "aGk="}))
        preview = next(blocks)
        assert (preview["event"], preview["id"]) == ("preview", first["id"])
        worker.start(job_id, done=21)
        second = next(blocks)
        assert (second["event"], json.loads(second["data"])["steps"]["done"]) == ("progress", 21)
        assert second["id"] != first["id"]
        api.delete(f"/jobs/{job_id}")
        worker.cancel(job_id)
        end = next(blocks)
        assert end["event"] == "cancelled"
        assert list(blocks) == []
    for known in (None, second["id"], "succeeded", "x" * 1000):
        headers = {} if known is None else {"Last-Event-ID": known}
        with api.stream("GET", path, headers=headers) as response:
            assert list(read_blocks(response)) == [end]
    shown = api.get(path, headers={"Last-Event-ID": end["id"]})
    assert (shown.status_code, shown.content) == (204, b"")
    assert api.get("/healthz").status_code == 200  # on the same connection


@pytest.mark.parametrize("keyed", [False, True])
def test_whoever_goes_away_cancels_the_job_unless_a_key_leads_back_to_it(
    api: httpx.Client, worker: FakeWorker, keyed: bool
) -> None:
    key = b"Idempotency-Key: k\r\n" if keyed else b""
    with socket.create_connection((api.base_url.host, api.base_url.port or 80)) as client:
        client.sendall(b"POST /generate HTTP/1.1\r\nHost: localhost\r\n" + key + b"Content-Length: 0\r\n\r\n")
        wait_until(lambda: len(queued(worker)) == 1, timeout=30, description="the job is accepted")
    nobody_listens(worker)
    if keyed:
        assert len(queued(worker)) == 1
    else:
        wait_until(lambda: queued(worker) == [], timeout=10, description="the job is cancelled")


def test_a_crowd_that_goes_away_at_any_moment_leaves_nothing_behind(
    api: httpx.Client, worker: FakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    request = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    before = gone(api)
    crowd = [socket.create_connection((api.base_url.host, api.base_url.port or 80)) for _ in range(40)]
    for index, visitor in enumerate(crowd):
        visitor.sendall(request % (index % 4 == 0))  # every fourth still owes a byte of its body
    for visitor in crowd:
        visitor.close()
    wait_until(
        lambda: gone(api) == before + 40,
        timeout=20,
        description="all requests have ended",
    )
    assert queued(worker) == []
    nobody_listens(worker)
    assert not caplog.records


def gone(api: httpx.Client) -> float:
    """How many clients have gone away before the answer to POST /generate, in this process so far."""
    counted = re.search(r'_count{method="POST",route="/generate",status="499"} ([0-9.]+)', api.get("/metrics").text)
    return float(counted[1]) if counted else 0.0


def nobody_listens(worker: FakeWorker) -> None:
    wait_until(worker.nobody_listens, timeout=10, description="nobody listens to a job")


def read_blocks(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The fields of each event."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


def read_events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_where_too_many_pictures_are_put_together_those_that_lie_ready_are_still_given(
    api: httpx.Client, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_access, "MAX_WAITING", 0)
    for n, status in ((1, 200), (2, 429)):
        key = {"Idempotency-Key": f"{n}"}
        job = api.post(f"/generate?n={n}", headers={"Prefer": "respond-async", **key}).json()["id"]
        worker.succeed(job)
        answer = api.get(f"/jobs/{job}/image")
        assert (answer.status_code, "Retry-After" in answer.headers) == (status, status == 429)
        again = api.post(f"/generate?n={n}", headers=key)  # the job is done, whether its pictures can be given or not
        assert again.status_code == (200 if n == 1 else 202)
        assert api.get(f"/jobs/{job}/images/0").status_code == 200
