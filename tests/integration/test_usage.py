"""What keys use is counted once for each job, however it ends and whatever dies, and shown to whom it concerns."""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import redis
from typer.testing import CliRunner

from difuso import cli
from difuso.app.prices import Prices
from difuso.app.settings import ApiSettings
from difuso.client import Client
from difuso.jobs.contract import JobState
from difuso.jobs.redis import keys
from difuso.jobs.redis.job_records import RESUMED_AT, JobRecord
from difuso.jobs.redis.usage import KEPT_DAYS, UsageRecords, Used, today
from difuso.worker.engine.held_jobs import Claim
from difuso.worker.queue import rq_scripts
from difuso.worker.queue.rq_scripts import End
from tests.app_server import ALICE, BOB, OPERATOR, FakeWorker, keys_file, running
from tests.waiting import wait_until
from tests.worker_stack import RECOVERY_SECONDS, Stack

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def settings(settings: ApiSettings, tmp_path: Path) -> ApiSettings:
    prices = Prices(image=2, image_step=0.5, stored_gb=1000)
    return settings.model_copy(update={"api_keys_file": keys_file(tmp_path), "prices": prices})


@pytest.fixture
def usage(redis_url: str) -> UsageRecords:
    return UsageRecords(redis.Redis.from_url(redis_url))


def of_today(usage: UsageRecords) -> dict[str | None, Used]:
    return {name: used for _, name, used in usage.days(today(), today())}


def submitted(api: httpx.Client, headers: dict[str, str], **params: Any) -> str:
    answer = api.post("/generate", params={"steps": 5} | params, headers=headers | ASYNC)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def claimed(worker: FakeWorker, job_id: str) -> Claim:
    """Takes a job as a worker does."""
    record = JobRecord.of(job_id, cast("dict[bytes, bytes]", worker.client.hgetall(f"rq:job:{job_id}")))
    worker.client.lrem(keys.queue_key(record.queue), 1, job_id)
    worker.client.hset(f"rq:job:{job_id}", "status", "started")
    claim = Claim(record, "0" * 32)
    worker.client.zadd(keys.running_key(record.queue), {claim.entry: 9})
    return claim


def test_each_job_counts_once_however_it_ends(api: httpx.Client, worker: FakeWorker, usage: UsageRecords) -> None:
    worker.report()
    used = Used(images=3, image_steps=15, device_us=2_500_000, stored_bytes=1000)
    done = End(claimed(worker, submitted(api, ALICE, n=3)), JobState.SUCCEEDED, {"images": 3}, used=used)
    for _ in range(2):  # as after a lost reply
        rq_scripts.end(worker.client, [done], "fake", at=1.0)
    late = End(Claim(done.claim.record, "1" * 32), JobState.FAILED, "too late")
    rq_scripts.end(worker.client, [late], "fake", at=1.0)
    assert of_today(usage) == {"alice": used}

    queued = submitted(api, BOB)
    for _ in range(2):
        assert api.delete(f"/jobs/{queued}", headers=BOB).status_code == 200
    assert of_today(usage)["bob"] == Used()

    claim = claimed(worker, submitted(api, BOB))
    worker.client.hset(f"rq:job:{claim.record.id}", mapping={"retries_left": 0, RESUMED_AT: 4})
    for _ in range(2):
        rq_scripts.recover(worker.client, claim.queue, claim.record.id, claim.execution, last_beat=9)
    assert of_today(usage)["bob"] == Used(jobs=2, image_steps=4)
    assert usage.totals() == of_today(usage)
    for key in worker.client.keys("difuso:usage:*"):
        assert 0 < worker.client.ttl(key) <= KEPT_DAYS * 86400


@pytest.fixture
def counted(api: httpx.Client, worker: FakeWorker) -> httpx.Client:
    """The API, when alice and bob have used something."""
    worker.report()
    used = Used(images=3, image_steps=15, device_us=2_500_000, stored_bytes=1_000_000)
    done = End(claimed(worker, submitted(api, ALICE, n=3)), JobState.SUCCEEDED, {"images": 3}, used=used)
    rq_scripts.end(worker.client, [done], "fake", at=1.0)
    api.delete(f"/jobs/{submitted(api, BOB)}", headers=BOB)
    return api


ALICES = {
    "day": str(today()),
    "key": "alice",
    "jobs": 1,
    "images": 3,
    "image_steps": 15,
    "device_seconds": 2.5,
    "stored_bytes": 1_000_000,
    "units": 3 * 2 + 15 * 0.5 + 1,
}


def test_a_key_sees_its_own_and_an_operator_all(counted: httpx.Client) -> None:
    shown = counted.get("/usage", headers=ALICE).json()
    assert (shown["to"], shown["days"]) == (str(today()), [ALICES])
    assert shown["prices"]["image"] == 2
    assert [row["key"] for row in counted.get("/usage", headers=OPERATOR).json()["days"]] == ["alice", "bob"]
    named = counted.get("/usage", params={"key": "alice"}, headers=OPERATOR).json()["days"]
    assert named == counted.get("/usage", params={"key": "alice"}, headers=ALICE).json()["days"] == [ALICES]
    assert counted.get("/usage", params={"key": "alice"}, headers=BOB).status_code == 422
    assert counted.get("/usage").status_code == 401


def test_days_are_chosen_and_their_number_is_bounded(counted: httpx.Client) -> None:
    def rows(first: str, last: str) -> httpx.Response:
        return counted.get("/usage", params={"from": first, "to": last}, headers=OPERATOR)

    assert rows("2020-01-01", "2020-12-31").json()["days"] == []
    assert len(rows(str(today()), str(today())).json()["days"]) == 2
    for first, last in (
        ("2020-01-02", "2020-01-01"),
        ("2020-01-01", "2021-03-01"),
        ("yesterday", "2020-01-01"),
        ("2020-01-01", "1577836800"),
    ):
        assert rows(first, last).status_code == 422
    assert counted.get("/usage", params={"to": "0001-01-01"}, headers=OPERATOR).status_code == 422


def test_it_comes_as_csv(counted: httpx.Client) -> None:
    answer = counted.get("/usage", headers=ALICE | {"Accept": "text/csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert list(csv.DictReader(answer.text.splitlines())) == [{name: str(value) for name, value in ALICES.items()}]
    assert counted.get("/usage", headers=ALICE | {"Accept": "image/png"}).status_code == 406


def test_metrics_have_each_key_of_the_file_for_operators_only(counted: httpx.Client) -> None:
    metrics = counted.get("/metrics", headers=OPERATOR).text
    assert 'difuso_usage_image_steps_total{key="alice"} 15.0' in metrics
    assert 'difuso_usage_jobs_total{key="bob"} 1.0' in metrics
    assert 'difuso_usage_device_seconds_total{key="oscar"} 0.0' in metrics
    assert "difuso_usage" not in counted.get("/metrics", headers=ALICE).text


def test_the_client_and_the_command_show_it(counted: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(str(counted.base_url), api_key="alice-key") as client:
        assert client.usage(from_=str(today()))["days"] == [ALICES]
    monkeypatch.setenv("DIFUSO_API_KEY", "oscar-key")
    monkeypatch.setenv("COLUMNS", "140")
    result = CliRunner().invoke(cli.app, ["usage", "--server", str(counted.base_url)])
    assert result.exit_code == 0, result.output
    assert "1,000,000" in result.output
    assert "14.500" in result.output


def test_without_keys_there_is_one_name(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path))
    with running(settings) as api:
        api.delete(f"/jobs/{submitted(api, {})}")
        (row,) = api.get("/usage").json()["days"]
        assert (row.get("key"), row["jobs"], "units" in row) == (None, 1, False)
        assert 'difuso_usage_jobs_total{key=""} 1.0' in api.get("/metrics").text


@pytest.mark.parametrize("text", ["", "image", "image=-1", "image=1 image=2", "picture=1", "image=nan", "image=1e308"])
def test_a_wrong_price_ends_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="prices such as"):
        ApiSettings.model_validate({"prices": text})


def test_prices_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFUSO_PRICES", "image=2, device_second=0.1")
    assert ApiSettings().prices == Prices(image=2, device_second=0.1)


@pytest.fixture
def killed(stack: Stack, count: int, kills: int) -> list[str]:
    """Jobs of three owners, some cancelled, that ended while workers were killed."""
    names = (None, "alice", "bob")
    ids = [stack.submit(owner=names[seed % 3], seed=seed, n=1 + seed % 2, steps=10) for seed in range(count)]
    stack.start_worker(log_format="json")
    usage = UsageRecords(stack.client)

    def ended() -> int:
        return sum(used.jobs for used in usage.totals().values())

    for kill in range(1, kills + 1):
        few = kill * count // (kills + 1)
        wait_until(partial(lambda few: ended() > few, few), 120, "some are done")
        stack.workers[-1].kill()
        stack.start_worker(log_format="json")
        stack.queue.cancel(ids[-kill])
    wait_until(lambda: all(state.is_terminal for state in stack.states(ids)), RECOVERY_SECONDS + 120, "all have ended")
    return ids


def of_the_result(folder: Path) -> list[Path]:
    """Returns the manifest and the files that it names, but not what a worker has left beside them that died."""
    text = (manifest := folder / "manifest.json").read_text()
    return [manifest, *(file for file in folder.glob("*/*") if file.parent.name in text)]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("count", "kills"), [(60, 1), pytest.param(500, 5, marks=pytest.mark.long)])
def test_the_sums_are_those_of_the_jobs_whatever_workers_die(
    stack: Stack, killed: list[str], count: int, kills: int, tmp_path: Path
) -> None:
    found = of_today(usage := UsageRecords(stack.client))
    statuses = [stack.queue.status(job_id) for job_id in killed]
    for name in (None, "alice", "bob"):
        own = [each for each in statuses if each.job.owner == name]
        drawn = [each.job for each in own if each.state is JobState.SUCCEEDED]
        folders = [tmp_path / "store" / "results" / job.id[:2] / job.id for job in drawn]
        files = [file for folder in folders for file in of_the_result(folder)]
        wanted = Counter(jobs=len(own), images=sum(job.answers for job in drawn))
        wanted["image_steps"] = sum(each.progress.image_steps for each in own)
        wanted["stored_bytes"] = sum(file.stat().st_size for file in files)
        assert {fact: getattr(found[name], fact) for fact in wanted} == wanted
    assert sum(used.jobs for used in found.values()) == count
    texts = "".join(stack.log(index) for index in range(kills + 1)).splitlines()
    lines = [json.loads(text) for text in texts if "job ended" in text]
    logged = sum(round(1e6 * line["device_seconds"]) for line in lines)
    total = sum(used.device_us for used in usage.totals().values())
    lost = {each.job.id for each in statuses if each.started_at is not None} - {line["job_id"] for line in lines}
    assert len(lost) <= 20 * kills, "the worker died before it could write the line"
    assert total > logged > 0 if lost else total == logged
