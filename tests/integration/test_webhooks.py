"""Webhooks: who is called when a job has ended, by whom, how often, and what the job says about it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus

from difuso.app.requests import webhooks as calling
from difuso.app.settings import ApiSettings
from difuso.jobs.contract import FailureCode
from difuso.jobs.redis import keys
from difuso.jobs.redis.keys import QueueName, running_key
from difuso.jobs.redis.queued import end_queued
from difuso.jobs.redis.webhooks import DELAYS, LEASE_SECONDS, LOOK_SECONDS, LOOKED_AT, Webhook, Webhooks
from difuso.worker.queue import rq_scripts
from tests.app_server import ALICE, BOB, FakeWorker, api_process, keys_file, running
from tests.receiver import Call, Receiver, receiving
from tests.waiting import wait_until
from tests.worker_stack import Stack

ASYNC = {"Prefer": "respond-async"}
SECRET, OTHER, OWN = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2, 3))


@pytest.fixture(scope="module")
def secret_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secret") / "secret"


@pytest.fixture
def settings(settings: ApiSettings, secret_file: Path) -> ApiSettings:
    """Returns settings with which this machine may be called."""
    secret_file.write_text(f"{SECRET}\n")
    hosts = frozenset({"http://127.0.0.0/8", "http://localhost", "hooks.example.com"})
    return settings.model_copy(update={"webhook_hosts": hosts, "webhook_secret_file": secret_file})


@pytest.fixture
def api(settings: ApiSettings, tmp_path: Path) -> Iterator[httpx.Client]:
    """Yields a client of the only front end, so that no other calls."""
    with running(settings.model_copy(update={"store_url": str(tmp_path / "store")})) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def hasten(worker: FakeWorker) -> Callable[[str], None]:
    """Makes the next look at the webhook of a job due, which may be hours ahead."""

    def make_due(job_id: str) -> None:
        assert worker.client.zadd(keys.WEBHOOKS, {job_id: 0}, xx=True, ch=True) == 1

    return make_due


def accept(
    api: httpx.Client, url: str, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> str:
    answer = api.post("/generate", params={**(query or {}), "webhook": url}, headers={**ASYNC, **(headers or {})})
    assert answer.status_code == 202, answer.text
    assert answer.json()["webhook"] == {"url": url, "attempts": 0}
    return str(answer.json()["id"])


def webhook_of(api: httpx.Client, job_id: str, **headers: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/jobs/{job_id}", headers=headers).json()["webhook"]
    return found


def wait_for_attempts(api: httpx.Client, job_id: str, count: int, **headers: str) -> dict[str, Any]:
    wait_until(lambda: webhook_of(api, job_id, **headers)["attempts"] == count, 20, f"there were {count} attempts")
    return webhook_of(api, job_id, **headers)


def signers(call: Call, *secrets: str) -> list[str]:
    """Returns those of the secrets by which a message is signed; as its receiver would, by the specification alone."""
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    sent = call.headers["webhook-signature"].split(" ")

    def is_signed(secret: str) -> bool:
        digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(digest).decode()}" in sent

    found = [secret for secret in secrets if is_signed(secret)]
    assert len(found) == len(sent)
    return found


def test_a_job_that_succeeded_is_told_as_it_is_shown(api: httpx.Client, worker: FakeWorker, receiver: Receiver) -> None:
    job_id = accept(api, f"{receiver.url}hook?a=b", {"tag": "poster"})
    worker.succeed(job_id)
    shown = wait_for_attempts(api, job_id, 1)
    assert shown.keys() == {"url", "attempts", "status", "delivered_at"}
    assert shown["status"] == 204
    (call,) = receiver.calls
    message = json.loads(call.body)
    job = api.get(f"/jobs/{job_id}").json()
    assert message == {"type": "job.succeeded", "timestamp": message["timestamp"], "data": job} | {
        "data": {name: value for name, value in job.items() if name != "webhook"}
    }
    assert message["data"]["links"]["images"]
    assert message["timestamp"][:19] == job["ended_at"][:19]
    assert (call.path, call.headers["host"]) == ("/hook?a=b", receiver.url.split("/")[2])
    assert call.headers["content-type"] == "application/json"
    assert call.headers["webhook-id"] == job_id
    assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 30
    assert signers(call, SECRET, OTHER) == [SECRET]
    assert not worker.client.exists(keys.WEBHOOKS)


def by_worker(api: httpx.Client, worker: FakeWorker, job_id: str) -> None:
    worker.fail(job_id, FailureCode.TIMEOUT)


def cancelled_in_queue(api: httpx.Client, worker: FakeWorker, job_id: str) -> None:
    assert api.delete(f"/jobs/{job_id}").status_code == 200


def cancelled_in_run(api: httpx.Client, worker: FakeWorker, job_id: str) -> None:
    worker.start(job_id)
    assert api.delete(f"/jobs/{job_id}").status_code == 202
    worker.cancel(job_id)


def stranded(api: httpx.Client, worker: FakeWorker, job_id: str) -> None:
    queue = QueueName(worker.ref(), 1, 3)
    assert end_queued(worker.client, job_id, queue, RqStatus.FAILED, ttl=60)


def without_workers(api: httpx.Client, worker: FakeWorker, job_id: str) -> None:
    worker.start(job_id)
    queue = QueueName(worker.ref(), 1, 3)
    worker.client.hset(RqJob.key_for(job_id), "retries_left", 0)
    worker.client.zadd(running_key(queue), {f"{job_id}:{'0' * 32}": 5})
    what, _ = rq_scripts.recover(worker.client, queue, job_id, "0" * 32, last_beat=5)
    assert what == "failed"


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (by_worker, "job.failed"),
        (cancelled_in_queue, "job.cancelled"),
        (cancelled_in_run, "job.cancelled"),
        (stranded, "job.failed"),
        (without_workers, "job.failed"),
    ],
)
def test_however_a_job_ends_it_is_told(
    end: Callable[[httpx.Client, FakeWorker, str], None],
    kind: str,
    api: httpx.Client,
    worker: FakeWorker,
    receiver: Receiver,
) -> None:
    job_id = accept(api, receiver.url)
    end(api, worker, job_id)
    assert wait_for_attempts(api, job_id, 1)["delivered_at"]
    assert json.loads(receiver.calls[0].body)["type"] == kind


def test_a_job_that_an_older_difuso_ended_is_told_a_little_later(
    api: httpx.Client, worker: FakeWorker, receiver: Receiver, hasten: Callable[[str], None]
) -> None:
    """Its scripts know no webhooks, so nothing says that the job has ended; and a job that has not is let alone."""
    job_id = accept(api, receiver.url)
    assert 0 < (worker.client.zscore(keys.WEBHOOKS, job_id) or 0) - time.time() <= LOOK_SECONDS
    hasten(job_id)
    wait_until(lambda: (worker.client.zscore(keys.WEBHOOKS, job_id) or 0) > 0, 10, "a front end has looked")
    worker.client.hset(RqJob.key_for(job_id), mapping={"status": "finished", "ended_at": "2026-01-01T00:00:00Z"})
    assert not receiver.calls
    hasten(job_id)
    wait_for_attempts(api, job_id, 1)
    assert json.loads(receiver.calls[0].body)["timestamp"] == "2026-01-01T00:00:00Z"


def test_whoever_does_not_take_it_is_called_again_with_the_same_id(
    api: httpx.Client, worker: FakeWorker, receiver: Receiver, hasten: Callable[[str], None]
) -> None:
    receiver.answers = [500, 302]
    job_id = accept(api, receiver.url)
    worker.succeed(job_id)
    for attempt, (status, delay) in enumerate(zip((500, 302), DELAYS, strict=False), 1):
        shown = wait_for_attempts(api, job_id, attempt)
        assert shown["status"] == status
        assert "delivered_at" not in shown
        wait = (worker.client.zscore(keys.WEBHOOKS, job_id) or 0) - time.time()
        assert 0 < wait <= 1.1 * delay
        hasten(job_id)
    shown = wait_for_attempts(api, job_id, 3)
    assert shown["status"] == 204
    assert "next_at" not in shown
    assert {call.headers["webhook-id"] for call in receiver.calls} == {job_id}
    assert {call.path for call in receiver.calls} == {"/"}, "no redirect is followed"
    assert not any("cookie" in call.headers for call in receiver.calls)
    text = api.get("/metrics").text
    assert 'difuso_webhooks_total{outcome="delivered"}' in text
    assert "difuso_webhooks_waiting 0.0" in text


def test_whoever_wants_no_more_calls_gets_none(api: httpx.Client, worker: FakeWorker, receiver: Receiver) -> None:
    receiver.answers = [410]
    job_id = accept(api, receiver.url)
    worker.succeed(job_id)
    assert wait_for_attempts(api, job_id, 1) == {"url": receiver.url, "attempts": 1, "status": 410}
    assert not worker.client.exists(keys.WEBHOOKS)


def test_after_a_day_it_is_given_up() -> None:
    webhook = Webhook(url="https://a.example")
    for _ in DELAYS:
        webhook = webhook.after("timeout", 0.5)
        assert webhook.next_at is not None
    assert webhook.after(503, 0.5).next_at is None
    assert sum(DELAYS) > 86_400


def test_a_receiver_that_hangs_or_is_away_costs_a_bounded_time(
    api: httpx.Client,
    worker: FakeWorker,
    receiver: Receiver,
    hasten: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calling, "CALL_SECONDS", 0.5)
    receiver.hangs.clear()
    job_id = accept(api, receiver.url)
    worker.succeed(job_id)
    assert wait_for_attempts(api, job_id, 1)["error"] == "timeout"
    receiver.hangs.set()
    hasten(job_id)
    assert wait_for_attempts(api, job_id, 2)["delivered_at"]
    gone = accept(api, "http://127.0.0.1:9/")
    worker.succeed(gone)
    assert wait_for_attempts(api, gone, 1)["error"] == "connection"


def test_a_name_that_leads_into_a_private_network_is_not_called(
    settings: ApiSettings, worker: FakeWorker, receiver: Receiver, tmp_path: Path
) -> None:
    hosts = frozenset({"http://localhost", "http://*.nowhere.invalid"})
    changed = {"webhook_hosts": hosts, "store_url": str(tmp_path / "store")}
    with running(settings.model_copy(update=changed)) as api:
        inside = accept(api, receiver.url.replace("127.0.0.1", "localhost"))
        unknown = accept(api, "http://a.nowhere.invalid/")
        for job_id in (inside, unknown):
            worker.succeed(job_id)
        assert wait_for_attempts(api, inside, 1)["error"] == "forbidden"
        assert wait_for_attempts(api, unknown, 1)["error"] == "name"
    assert not receiver.calls


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://169.254.169.254/latest", "DIFUSO_WEBHOOK_HOSTS"),
        ("https://[::1]/", "DIFUSO_WEBHOOK_HOSTS"),
        ("https://evil.example/", "DIFUSO_WEBHOOK_HOSTS"),
        ("https://xn--/", "https://xn--: its operator"),  # it is no name
        ("http://hooks.example.com/", "DIFUSO_WEBHOOK_HOSTS"),
        ("https://user:secret@hooks.example.com/", "password"),
        ("https://hooks.example.com:99999999/", "port"),
        ("https://hooks.example.com:x/", "Input should be an address"),
        ("ftp://hooks.example.com/", "pattern"),
        ("https://hooks.example.com/" + "a" * 1000, "at most 1000"),
    ],
)
@pytest.mark.parametrize("price", [False, True])
def test_an_address_that_may_not_be_called_is_refused(url: str, why: str, price: bool, api: httpx.Client) -> None:
    answer = api.post("/generate", json={"webhook": url, "dry_run": price}, headers=ASYNC)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["parameter"] == "webhook"
    assert why in error["detail"]
    assert "secret" not in error["detail"]


@pytest.mark.parametrize(
    ("lacking", "advice"),
    [({"webhook_hosts": frozenset()}, "DIFUSO_WEBHOOK_HOSTS"), ({"webhook_secret_file": None}, "_SECRET_FILE")],
)
def test_a_server_without_hosts_or_secret_says_what_it_lacks(
    lacking: dict[str, Any], advice: str, settings: ApiSettings, tmp_path: Path
) -> None:
    changed = settings.model_copy(update=lacking | {"store_url": str(tmp_path / "store")})
    with running(changed) as api:
        answer = api.post("/generate?webhook=https://hooks.example.com", headers=ASYNC)
        assert answer.status_code == 422
        assert advice in answer.json()["detail"]


def test_two_secrets_sign_while_one_replaces_the_other(
    api: httpx.Client,
    worker: FakeWorker,
    receiver: Receiver,
    secret_file: Path,
    hasten: Callable[[str], None],
) -> None:
    receiver.answers = [503, 503, 503]
    job_id = accept(api, receiver.url)
    worker.succeed(job_id)
    wait_for_attempts(api, job_id, 1)
    for attempt, content in enumerate((f"{OTHER}\n{SECRET}\n", "", f"{OTHER}\n"), 2):
        secret_file.write_text(content)
        hasten(job_id)
        shown = wait_for_attempts(api, job_id, attempt)
        assert shown.get("error") == (None if content else "secret")
    signed = [signers(call, SECRET, OTHER) for call in receiver.calls]
    assert signed == [[SECRET], [SECRET, OTHER], [OTHER]]


def test_an_owner_may_have_its_own_secret_and_gets_signed_links(
    settings: ApiSettings, worker: FakeWorker, receiver: Receiver, tmp_path: Path
) -> None:
    """So that the receiver of one owner can neither check nor make the messages of another."""
    file = keys_file(tmp_path, f"webhook_secret={OWN}")
    changed = {"api_keys_file": file, "webhook_secret_file": None, "store_url": settings.store_url}
    with running(settings.model_copy(update=changed)) as api:
        refused = api.post("/generate", params={"webhook": receiver.url}, headers=ASYNC | BOB)
        assert refused.status_code == 422
        assert "webhook_secret" in refused.json()["detail"]
        job_id = accept(api, receiver.url, headers=ALICE)
        worker.succeed(job_id)
        assert wait_for_attempts(api, job_id, 1, **ALICE)["delivered_at"]
        (call,) = receiver.calls
        assert signers(call, SECRET, OWN) == [OWN]
        data = json.loads(call.body)["data"]
        assert "owner" not in data
        assert api.get(data["links"]["signed"][0]).status_code == 200
        assert api.get(f"/jobs/{job_id}", headers=BOB).status_code == 404


def test_one_key_is_one_job_with_one_webhook(api: httpx.Client, receiver: Receiver) -> None:
    job_id = accept(api, receiver.url, headers={"Idempotency-Key": "k"})
    assert accept(api, receiver.url, headers={"Idempotency-Key": "k"}) == job_id
    other = api.post("/generate", params={"webhook": f"{receiver.url}b"}, headers=ASYNC | {"Idempotency-Key": "k"})
    assert other.json()["type"] == "/problems/idempotency-conflict"


def test_a_front_end_that_was_late_changes_nothing(
    settings: ApiSettings, worker: FakeWorker, models_dir: Path, tmp_path: Path
) -> None:
    """Its lease was over, and another front end has called meanwhile."""
    changed = {"webhook_hosts": frozenset({"hooks.example.com"}), "store_url": str(tmp_path / "store")}
    with running(settings.model_copy(update=changed)) as api:
        job_id = accept(api, "https://hooks.example.com/")
    worker.succeed(job_id)
    records = Webhooks(worker.client)
    (first,) = records.claim(5, {})
    assert records.claim(5, {}) == []
    worker.client.zadd(keys.WEBHOOKS, {job_id: 0})
    assert records.waiting() == 1
    (second,) = records.claim(5, {})
    assert records.report(second, second.webhook.after(200, 0))
    assert not records.report(first, first.webhook.after("timeout", 0))
    assert not worker.client.exists(keys.WEBHOOKS)


def test_the_webhook_of_a_job_that_is_forgotten_is_forgotten(worker: FakeWorker) -> None:
    worker.client.zadd(keys.WEBHOOKS, {"gone": 0})
    assert Webhooks(worker.client).claim(5, {}) == []
    assert not worker.client.exists(keys.WEBHOOKS)


@pytest.mark.parametrize("headers", [(ALICE, BOB), ({}, {})])
def test_receivers_that_hang_do_not_delay_those_of_others(
    headers: tuple[dict[str, str], dict[str, str]],
    settings: ApiSettings,
    worker: FakeWorker,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """Other owners', or without keys other hosts', however many calls are due."""
    changed = {"api_keys_file": keys_file(tmp_path)} if headers[0] else {}
    with receiving() as hanging, running(settings.model_copy(update=changed)) as api:
        hanging.hangs.clear()
        slow = [accept(api, hanging.url, headers=headers[0]) for _ in range(LOOKED_AT + calling.AT_ONCE)]
        late = accept(api, receiver.url, headers=headers[1])
        for job_id in slow:
            api.delete(f"/jobs/{job_id}", headers=headers[0])
        wait_until(lambda: len(hanging.calls) == calling.AT_ONCE // 2, 5, "it has half of the calls")
        api.delete(f"/jobs/{late}", headers=headers[1])
        assert wait_for_attempts(api, late, 1, **headers[1])["delivered_at"]
        assert len(hanging.calls) == calling.AT_ONCE // 2


@pytest.mark.timeout(120)
def test_a_front_end_that_is_killed_while_it_calls_loses_no_webhook(
    settings: ApiSettings,
    redis_url: str,
    models_dir: Path,
    tmp_path: Path,
    worker: FakeWorker,
    receiver: Receiver,
    hasten: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIFUSO_WEBHOOK_HOSTS", "http://127.0.0.1")
    monkeypatch.setenv("DIFUSO_WEBHOOK_SECRET_FILE", str(settings.webhook_secret_file))
    receiver.hangs.clear()
    with ExitStack() as stack:
        process, first = stack.enter_context(api_process(redis_url, models_dir, tmp_path))
        job_id = accept(first, receiver.url)
        worker.succeed(job_id)
        wait_until(lambda: receiver.calls, 20, "the first front end calls")
        process.send_signal(signal.SIGKILL)
        process.wait()
        lease = (worker.client.zscore(keys.WEBHOOKS, job_id) or 0) - time.time()
        assert 0 < lease <= LEASE_SECONDS
        receiver.hangs.set()
        hasten(job_id)
        second = stack.enter_context(running(settings.model_copy(update={"store_url": str(tmp_path / "store")})))
        assert wait_for_attempts(second, job_id, 1)["delivered_at"]
    assert [call.headers["webhook-id"] for call in receiver.calls] == [job_id, job_id]


@pytest.mark.timeout(120)
def test_a_real_worker_has_it_called(
    stack: Stack, redis_url: str, models_dir: Path, tmp_path: Path, settings: ApiSettings, receiver: Receiver
) -> None:
    stack.start_worker()
    with running(settings.model_copy(update={"store_url": str(tmp_path / "store")})) as api:
        wait_until(lambda: api.get("/models").json()["models"][0]["state"] == "ready", 60, "the worker is ready")
        waited = api.post(
            "/generate", params={"steps": 2, "webhook": receiver.url}, headers={"Accept": "application/json"}
        )
        assert waited.json()["webhook"] == {"url": receiver.url, "attempts": 0}
        wait_for_attempts(api, waited.json()["id"], 1)
    assert json.loads(receiver.calls[0].body)["data"]["steps"] == {"done": 2, "total": 2}


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Makes a certificate for a host, and its key."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command = ["openssl", "req", *options, *names, "-out", str(made), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def test_the_connection_goes_to_the_address_that_was_checked_and_the_certificate_is_of_the_host(
    settings: ApiSettings, worker: FakeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name leads to this machine when it is asked first, and elsewhere ever after."""
    made, key = certificate(tmp_path, "hooks.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    look_up, asked = socket.getaddrinfo, list[str]()

    def rebound(host: Any, *args: Any, **more: Any) -> Any:
        if str(host).endswith(".example.com"):
            asked.append(host)
            host = "127.0.0.1" if asked.count(host) == 1 else "192.0.2.1"
        return look_up(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    hosts = frozenset({"*.example.com", "127.0.0.1"})
    changed = settings.model_copy(update={"webhook_hosts": hosts, "store_url": str(tmp_path / "store")})
    with receiving(context) as receiver, running(changed) as api:
        url = receiver.url.replace("127.0.0.1", "hooks.example.com")
        named, wrong = accept(api, url), accept(api, url.replace("hooks", "other"))
        for job_id in (named, wrong):
            worker.succeed(job_id)
        assert wait_for_attempts(api, named, 1)["delivered_at"]
        assert wait_for_attempts(api, wrong, 1)["error"] == "connection"
        (call,) = receiver.calls
    assert sorted(asked) == ["hooks.example.com", "other.example.com"]
    assert sorted(receiver.names, key=str) == ["hooks.example.com", "other.example.com"]
    assert f"https://{call.headers['host']}/" == url
