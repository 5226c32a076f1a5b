"""Asking where a job stands: at once, only for what has changed, and waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from difuso.jobs.redis import keys
from difuso.jobs.redis.events import status_channel
from tests.app_server import FakeWorker
from tests.waiting import wait_until

ASYNC = {"Prefer": "respond-async"}
Poll = Callable[..., "Future[httpx.Response]"]


@pytest.fixture
def job(api: httpx.Client) -> str:
    return str(api.post("/generate", headers=ASYNC).json()["id"])


@pytest.fixture
def poll(api: httpx.Client, job: str, worker: FakeWorker) -> Iterator[Poll]:
    """Starts to wait for the job, and returns once the request waits."""
    with ThreadPoolExecutor(4) as pool:

        def poll(path: str = "", **headers: str) -> Future[httpx.Response]:
            asked = {"Prefer": "wait=15", **{name.replace("_", "-"): value for name, value in headers.items()}}
            answer = pool.submit(api.get, f"/jobs/{job}{path}", headers=asked)
            listening = lambda: worker.client.pubsub_numsub(status_channel(job))[0][1] == 1  # noqa: E731
            wait_until(listening, timeout=10, description="the request waits")
            return answer

        yield poll


def tag_of(api: httpx.Client, job: str) -> str:
    return str(api.get(f"/jobs/{job}").headers["ETag"])


def test_what_is_known_is_not_sent_again(api: httpx.Client, worker: FakeWorker, job: str) -> None:
    first = api.get(f"/jobs/{job}")
    known = {"If-None-Match": f'"other", W/{first.headers["ETag"]}'}
    same = api.get(f"/jobs/{job}", headers=known)
    assert (same.status_code, same.content) == (304, b"")
    for name in ("ETag", "X-Job-Id", "Content-Location", "Retry-After"):
        assert same.headers[name] == first.headers[name]
    worker.start(job, done=3)
    changed = api.get(f"/jobs/{job}", headers=known)
    assert (changed.status_code, changed.json()["state"]) == (200, "running")
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert api.head(f"/jobs/{job}", headers={"If-None-Match": changed.headers["ETag"]}).status_code == 304


def test_a_new_job_comes_with_the_tag_by_which_it_can_be_waited_for(api: httpx.Client) -> None:
    accepted = api.post("/generate", headers=ASYNC)
    assert accepted.headers["ETag"] == api.get(accepted.headers["Location"]).headers["ETag"]


def test_timesteps_are_a_representation_of_their_own(api: httpx.Client, worker: FakeWorker, job: str) -> None:
    worker.start(job)
    plain, long = api.get(f"/jobs/{job}"), api.get(f"/jobs/{job}?timesteps=true")
    assert plain.headers["ETag"] != long.headers["ETag"]
    assert long.headers["Content-Location"] == f"/jobs/{job}?timesteps=true"
    again = api.get(long.headers["Content-Location"], headers={"If-None-Match": long.headers["ETag"]})
    assert again.status_code == 304


def test_a_wait_ends_with_the_job_and_not_before(poll: Poll, worker: FakeWorker, job: str) -> None:
    answer = poll()
    worker.start(job, done=3)
    worker.client.publish(status_channel(job), "{}")
    worker.succeed(job)
    response = answer.result()
    assert (response.status_code, response.json()["state"]) == (200, "succeeded")
    assert response.headers["Preference-Applied"] == "wait=15"
    assert "Retry-After" not in response.headers


def test_a_wait_for_news_ends_with_the_first(api: httpx.Client, poll: Poll, worker: FakeWorker, job: str) -> None:
    known = tag_of(api, job)
    answer = poll(If_None_Match=known)
    worker.client.publish(status_channel(job), "{}")  # without anything new
    worker.start(job, done=1)
    response = answer.result()
    assert response.status_code == 200
    assert response.headers["ETag"] != known


def test_a_wait_for_news_of_timesteps_sees_them(poll: Poll, worker: FakeWorker, job: str) -> None:
    answer = poll("?timesteps=true")
    worker.succeed(job)
    assert answer.result().json()["timesteps"] == [500, 0]


@pytest.mark.parametrize("known", [True, False])
def test_a_wait_that_is_over_is_answered_with_what_is(api: httpx.Client, job: str, known: bool) -> None:
    headers = {"Prefer": "wait=1", **({"If-None-Match": tag_of(api, job)} if known else {})}
    response = api.get(f"/jobs/{job}", headers=headers)
    assert response.status_code == (304 if known else 200)
    assert response.headers["Preference-Applied"] == "wait=1"


def test_nobody_waits_for_what_has_happened(api: httpx.Client, worker: FakeWorker, job: str) -> None:
    forever = [("Prefer", "wait=100"), ("Prefer", "wait=0")]
    old = tag_of(api, job)
    worker.start(job)
    assert api.get(f"/jobs/{job}", headers=[*forever, ("If-None-Match", old)]).json()["state"] == "running"
    worker.succeed(job)
    assert api.get(f"/jobs/{job}", headers=forever).headers["Preference-Applied"] == "wait=100"
    assert api.get(f"/jobs/{job}", headers=[*forever, ("If-None-Match", tag_of(api, job))]).status_code == 304


def test_whoever_stops_waiting_leaves_the_job_alone(api: httpx.Client, worker: FakeWorker, job: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        api.get(f"/jobs/{job}", headers={"Prefer": "wait=60"}, timeout=0.5)
    wait_until(worker.nobody_listens, timeout=10, description="nobody listens")
    assert not worker.client.exists(keys.cancel(job))
    assert api.get(f"/jobs/{job}").json()["state"] == "queued"
