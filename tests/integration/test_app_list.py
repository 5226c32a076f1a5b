"""GET /jobs: whose jobs, which of them, and in which order, whatever comes and goes meanwhile."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from difuso.app.settings import ApiSettings
from difuso.jobs.contract import FailureCode, Job
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis import index, keys
from difuso.jobs.redis.index import Wanted
from difuso.jobs.redis.queue import JobQueue
from tests.app_server import ALICE, BOB, OPERATOR, FakeWorker, keys_file, running

ASYNC = {"Prefer": "respond-async"}
PARAMS = SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)


def accept(api: httpx.Client, query: str = "", **headers: str) -> str:
    response = api.post(f"/generate{query}", headers={**ASYNC, **headers})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def listed(api: httpx.Client, query: str = "", **headers: str) -> list[str]:
    answer = api.get(f"/jobs{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


def pages(api: httpx.Client, query: str, **headers: str) -> Iterator[list[str]]:
    """All parts of a list, each by the `next` of the one before."""
    answer = api.get(query, headers=headers)
    while True:
        body = answer.json()
        yield [job["id"] for job in body["jobs"]]
        if "next" not in body:
            return
        answer = api.get(httpx.URL(query).copy_set_param("cursor", body["next"]), headers=headers)


@pytest.fixture
def queue(worker: FakeWorker) -> JobQueue:
    return JobQueue(worker.client, result_ttl=60)


def submit(queue: JobQueue, **facts: Any) -> str:
    job = Job(id=str(uuid.uuid4()), model="tiny", params=PARAMS, accepted_at=time.time(), timeout=1)
    assert queue.submit(job.model_copy(update=facts), request_hash="")
    return job.id


def test_jobs_are_listed_newest_first_as_they_are_shown_alone(api: httpx.Client, worker: FakeWorker) -> None:
    assert api.get("/jobs").json() == {"jobs": []}
    ids = [accept(api, f"?tag=number {number}") for number in range(3)]
    worker.succeed(ids[0])
    worker.start(ids[1], done=7)
    answer = api.get("/jobs")
    shown = answer.json()["jobs"]
    assert [job["id"] for job in shown] == ids[::-1]
    assert shown[1:] == [api.get(f"/jobs/{job_id}").json() for job_id in ids[1::-1]]
    assert shown[0] == {key: value for key, value in api.get(f"/jobs/{ids[2]}").json().items() if key != "position"}
    assert [job["tag"] for job in shown] == ["number 2", "number 1", "number 0"]
    assert "next" not in answer.json()


def test_a_list_is_small_and_is_sent_again_only_if_it_has_changed(api: httpx.Client, worker: FakeWorker) -> None:
    accept(api)
    job_id = accept(api)
    first = api.get("/jobs")
    assert first.headers["Content-Encoding"] == "gzip"
    known = {"If-None-Match": first.headers["ETag"]}
    same = api.get("/jobs", headers=known)
    assert (same.status_code, same.content) == (304, b"")
    worker.start(job_id, done=1)
    assert api.get("/jobs", headers=known).json()["jobs"][0]["state"] == "running"


def test_a_list_with_signed_links_is_not_compressed(settings: ApiSettings, tmp_path: Path) -> None:
    with running(settings.model_copy(update={"api_keys_file": keys_file(tmp_path)})) as guarded:
        for _ in range(3):
            accept(guarded, **ALICE)
        answer = guarded.get("/jobs", headers=ALICE)
        assert "Content-Encoding" not in answer.headers
        known = {"If-None-Match": answer.headers["ETag"]}
        assert guarded.get("/jobs", headers=ALICE | known).status_code == 304


def test_each_filter_leaves_what_it_names(api: httpx.Client, worker: FakeWorker) -> None:
    plain, tagged, failed, cancelled, other = (accept(api, query) for query in ("", "?tag=a b", "", "?tag=a", ""))
    worker.start(tagged)
    worker.fail(failed, FailureCode.INTERNAL)
    api.delete(f"/jobs/{cancelled}")
    worker.succeed(other)
    for query, expected in (
        ("?state=queued", [plain]),
        ("?state=running", [tagged]),
        ("?state=failed", [failed]),
        ("?state=cancelled", [cancelled]),
        ("?state=succeeded", [other]),
        ("?tag=a b", [tagged]),
        ("?tag=a", [cancelled]),
        ("?tag=b", []),
        ("?without_tag=a b", [other, cancelled, failed, plain]),
        ("?without_tag=a&state=cancelled", []),
        ("?tag=a&state=queued", []),
        ("?tag=a&state=cancelled&kind=generate&model=tiny", [cancelled]),
        ("?kind=denoise", []),
        ("?model=large", []),
        ("?kind=generate&model=tiny", [other, cancelled, failed, tagged, plain]),
    ):
        assert listed(api, query) == expected, query


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "state=done",
        "kind=draw",
        "model=../x",
        "tag=",
        f"tag={'x' * 65}",
        "tag=%09",
        "without_tag=",
        "tag=%C3%A9",
        "cursor=x",
        "cursor=",
        "cursor=%00",
        "cursor=nan_6f1c9a34-51a3-4c0b-9d0e-2d5b8a7f0c11",
        "cursor=1e999_6f1c9a34-51a3-4c0b-9d0e-2d5b8a7f0c11",
        "owner=alice",
        "limit=5&limit=6",
    ],
)
def test_a_wrong_parameter_is_named(api: httpx.Client, query: str) -> None:
    answer = api.get(f"/jobs?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


def test_a_tag_is_sixty_four_printable_characters_on_every_kind(api: httpx.Client) -> None:
    for path in ("/generate", "/denoise", "/interpolate", "/restore?task=deblur"):
        for tag in ("", "x" * 65, "a\tb", "\u00e9"):
            answer = api.post(path, params={**httpx.URL(path).params, "tag": tag}, headers=ASYNC)
            assert answer.status_code == 422
            assert "tag" in [error.get("parameter") for error in answer.json()["errors"]], (path, tag)
    tag = ' ~!"%&=#+'
    answer = api.post("/generate", params={"tag": tag}, headers=ASYNC)
    assert answer.json()["tag"] == tag
    assert [job["tag"] for job in api.get("/jobs", params={"tag": tag}).json()["jobs"]] == [tag]


def test_a_tag_belongs_to_the_request_that_a_key_repeats(api: httpx.Client) -> None:
    key = {"Idempotency-Key": "k"}
    assert accept(api, "?tag=a", **key) == accept(api, "?tag=a", **key)
    for query in ("?tag=b", ""):
        answer = api.post(f"/generate{query}", headers={**ASYNC, **key})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency-conflict")
    assert len(listed(api)) == 1


def test_parts_follow_each_other_while_jobs_come_and_are_forgotten(
    api: httpx.Client, worker: FakeWorker, queue: JobQueue
) -> None:
    ids = [submit(queue) for _ in range(10)][::-1]
    seen = []
    for number, part in enumerate(pages(api, "/jobs?limit=3&model=tiny")):
        seen += part
        submit(queue)  # is newer than all that is listed
        if number == 1:
            worker.client.delete(f"rq:job:{ids[5]}")  # the last that was shown
            worker.client.zrem(keys.index(None), ids[5])
            worker.client.delete(f"rq:job:{ids[7]}")
    assert seen == [job_id for job_id in ids if job_id != ids[7]]


def test_a_filter_that_matches_little_examines_a_bounded_part(
    api: httpx.Client, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "EXAMINED", 4)
    ids = [submit(queue, tag="rare" if number == 0 else None) for number in range(9)]
    assert list(pages(api, "/jobs?tag=rare")) == [[], [], [ids[0]]]
    assert list(pages(api, "/jobs?limit=3&kind=generate")) == [ids[:5:-1], ids[5:2:-1], ids[2::-1]]
    assert list(pages(api, "/jobs?limit=100")) == [ids[::-1]]


def test_a_part_ends_after_a_bounded_size_of_its_jobs(
    api: httpx.Client, worker: FakeWorker, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are, not as they are compressed."""
    params = PARAMS.model_copy(update={"conditions": {"like": (2000 * (0.0,),)}})
    ids = [submit(queue, params=params if number % 2 else PARAMS) for number in range(6)][::-1]
    assert worker.client.hstrlen(f"rq:job:{ids[0]}", "data") < 1000 < 5000 < len(params.model_dump_json())
    monkeypatch.setattr(index, "PAGE_BYTES", 5000)
    assert list(pages(api, "/jobs")) == [ids[:1], ids[1:3], ids[3:5], ids[5:]]
    assert list(pages(api, "/jobs?limit=2")) == [ids[:1], ids[1:3], ids[3:5], ids[5:]]


def test_whoever_repeats_a_request_does_not_move_its_job(api: httpx.Client) -> None:
    first = accept(api, **{"Idempotency-Key": "k"})
    second = accept(api)
    assert accept(api, **{"Idempotency-Key": "k"}) == first
    assert listed(api) == [second, first]


def test_an_entry_whose_job_is_missing_is_removed_however_young_it_is(worker: FakeWorker, queue: JobQueue) -> None:
    """A job and its entries are written together; one that is submitted again is listed again."""
    job = Job(id=str(uuid.uuid4()), model="tiny", params=PARAMS, accepted_at=time.time(), timeout=1)
    assert queue.submit(job, request_hash="")
    worker.client.delete(f"rq:job:{job.id}")
    assert queue.page(None, Wanted(), most=10).jobs == []
    assert worker.client.zcard(keys.index(None)) == 0
    assert queue.submit(job, request_hash="")
    assert [status.job.id for status in queue.page(None, Wanted(), most=10).jobs] == [job.id]


def test_a_job_that_has_waited_longer_than_its_lists_are_kept_is_entered_again(
    worker: FakeWorker, queue: JobQueue
) -> None:
    late, early = (
        Job(id=str(uuid.uuid4()), model="tiny", params=PARAMS, accepted_at=time.time() - age, timeout=1)
        for age in (1 + 2 * 60 + 5, 1 + 2 * 60 - 5)
    )
    for job in (late, early):
        assert queue.submit(job, request_hash="")
    worker.client.delete(*index.indices(late))
    for job in (late, early):
        index.enter_again(worker.client, job, result_ttl=60)
    for owner in (None, index.EVERYBODY):
        assert worker.client.zrange(keys.index(owner), 0, -1, withscores=True) == [
            (late.id.encode(), pytest.approx(late.accepted_at))
        ]
        assert 0 < worker.client.ttl(keys.index(owner)) <= 121


def test_new_jobs_remove_the_entries_of_forgotten_ones(worker: FakeWorker, queue: JobQueue) -> None:
    """Also of an owner who never lists its jobs."""
    for owner in (None, index.EVERYBODY):
        worker.client.zadd(keys.index(owner), {str(uuid.uuid4()): 1e9 for _ in range(100)})
    for _ in range(150):
        submit(queue)
    for owner in (None, index.EVERYBODY):
        assert worker.client.zcount(keys.index(owner), 1e9, 1e9) < 50
    assert len(queue.page(None, Wanted(), most=1000).jobs) == 150


def test_a_damaged_job_is_unreadable_and_spoils_no_list(api: httpx.Client, worker: FakeWorker) -> None:
    mine = accept(api)
    damaged = str(uuid.uuid4())
    worker.client.hset(f"rq:job:{damaged}", mapping={"data": b"\xff", "status": "queued"})
    worker.client.zadd(keys.index(None), {damaged: time.time(), str(uuid.uuid4()): 1e300})
    for query in ("", "?state=queued", "?kind=generate"):
        assert listed(api, query) == [mine]
    assert worker.client.zcard(keys.index(None)) == 2, "an entry without a job is removed"
    for answer in (api.get(f"/jobs/{damaged}"), api.delete(f"/jobs/{damaged}")):
        assert (answer.status_code, answer.json()["type"]) == (410, "/problems/job-unreadable")


def test_each_caller_lists_its_own_jobs(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    settings = ApiSettings(
        redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"), api_keys_file=keys_file(tmp_path)
    )
    with running(settings.model_copy(update={"api_keys_file": None})) as api:
        nobodys = accept(api)
        with running(settings) as guarded:
            alices, bobs = accept(guarded, **ALICE), accept(guarded, **BOB)
            assert listed(guarded, **ALICE) == [alices]
            assert listed(guarded, **BOB) == [bobs]
            assert guarded.get("/jobs").status_code == 401
        assert listed(api) == [nobodys]
        worker = FakeWorker(settings)
        worker.client.zadd(keys.index("bob"), {alices: time.time()})  # somebody else wrote it
        with running(settings) as guarded:
            assert listed(guarded, **BOB) == [bobs]
        worker.client.close()


def test_an_operator_lists_the_jobs_of_all_owners_or_of_one(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    settings = ApiSettings(
        redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"), api_keys_file=keys_file(tmp_path)
    )
    with running(settings.model_copy(update={"api_keys_file": None})) as api:
        nobodys = accept(api)
        assert api.get("/jobs?owner=alice").status_code == 422
    with running(settings) as api:
        alices, bobs, tagged, own = (
            accept(api, query, **who) for query, who in (("", ALICE), ("", BOB), ("?tag=x", ALICE), ("", OPERATOR))
        )
        everything = [own, tagged, bobs, alices, nobodys]
        assert listed(api, **OPERATOR) == everything
        assert [part for page in pages(api, "/jobs?limit=2", **OPERATOR) for part in page] == everything
        owners = [job.get("owner") for job in api.get("/jobs", headers=OPERATOR).json()["jobs"]]
        assert owners == ["oscar", "alice", "bob", "alice", None]
        assert list(pages(api, "/jobs?owner=alice&limit=1", **OPERATOR)) == [[tagged], [alices]]
        assert listed(api, "?owner=alice&tag=x", **OPERATOR) == listed(api, "?tag=x", **OPERATOR) == [tagged]
        assert listed(api, "?owner=nobody", **OPERATOR) == []
        assert listed(api, "?owner=alice", **ALICE) == listed(api, **ALICE) == [tagged, alices]
        for name in ("bob", "oscar", "nobody"):
            answer = api.get(f"/jobs?owner={name}", headers=ALICE)
            assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "owner")
        assert api.get("/jobs?owner=*", headers=ALICE).status_code == 422
