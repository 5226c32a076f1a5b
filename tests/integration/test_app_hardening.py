"""Requests that mean no good, and what every answer says to browsers."""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.settings import ApiSettings
from jobs.queue import JobQueue
from tests.app_server import ALICE, BOB, FakeWorker, keys_file, running

ASYNC = {"Prefer": "respond-async"}
MEGABYTE = 1 << 20
NO_JOB = "00000000-0000-4000-8000-000000000000"
EVIL = {"Origin": "https://evil.example"}


def endless(kind: str) -> Iterator[bytes]:
    """A request whose head has no end, or 200 MB at most."""
    if kind == "url":
        yield b"GET /"
        yield from (MEGABYTE * b"a" for _ in range(200))
    yield b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    if kind == "header":
        yield b"X-Large: "
        yield from (MEGABYTE * b"a" for _ in range(200))
    for number in range(2_000_000):
        yield f"X-{number}: a\r\n".encode()


@pytest.mark.parametrize("kind", ["url", "header", "headers"])
def test_a_head_without_end_is_refused_after_16_kilobytes(api: httpx.Client, kind: str) -> None:
    before, sent, answer = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, b""
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as attacker:
        with suppress(OSError):  # it hangs up
            for chunk in endless(kind):
                attacker.sendall(chunk)
                sent += len(chunk)
        with suppress(OSError):  # what was sent in vain may have reset the connection before the answer was read
            answer = attacker.recv(65536)
    assert answer[:12] in (b"", b"HTTP/1.1 400")
    assert sent < 20 * MEGABYTE  # what the system holds for both sides
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    assert api.get("/healthz").status_code == 200


def test_thousands_of_ranges_are_answered_with_the_whole(api: httpx.Client, worker: FakeWorker) -> None:
    job = api.post("/generate", headers=ASYNC).json()
    worker.succeed(job["id"])
    ranges = {"Range": "bytes=" + ",".join(f"{index}-" for index in range(2_500))}  # as many as a head can hold
    picture = api.get(f"/jobs/{job['id']}/images/0", headers=ranges)
    assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")
    for path in ("/", "/static/page.js"):
        assert api.get(path, headers=ranges).status_code in (200, 206, 416)
        assert api.head(path).status_code == 200


def test_no_other_origin_is_let_in(api: httpx.Client) -> None:
    evil = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for method, path in (("OPTIONS", "/generate"), ("OPTIONS", "/models"), ("GET", "/models"), ("GET", "/healthz")):
        answer = api.request(method, path, headers={**evil, "Access-Control-Request-Headers": "authorization"})
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("said", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, EVIL])
def test_a_page_from_elsewhere_changes_nothing(api: httpx.Client, worker: FakeWorker, said: dict[str, str]) -> None:
    job = api.post("/generate", headers=ASYNC).json()["links"]["self"]
    for method, path in (("POST", "/generate"), ("POST", "/denoise"), ("DELETE", job), ("POST", "/nothing")):
        answer = api.request(method, path, headers=said)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/cross-origin")
    assert worker.client.llen("rq:queue:difuso.tiny.3") == 1
    assert api.get(job, headers=said).json()["state"] == "queued"


def test_our_own_page_and_programs_may_change_things(api: httpx.Client) -> None:
    own = {"Origin": str(api.base_url).rstrip("/")}
    for said in ({}, own, {**own, "Sec-Fetch-Site": "same-origin"}):
        assert api.post("/generate", headers=ASYNC | said).status_code == 202


@pytest.mark.parametrize("path", ["/models/", "/generate/", "/static", "/healthz/", "/models/tiny/"])
def test_nobody_is_led_to_the_host_that_the_request_names(api: httpx.Client, settings: ApiSettings, path: str) -> None:
    with running(settings.model_copy(update={"allowed_hosts": frozenset({"evil.example"})})) as named:
        answer = named.get(path, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (f"/jobs/{NO_JOB}", "DELETE, GET"),
        (f"/jobs/{NO_JOB}/image", "GET, HEAD"),
        (f"/jobs/{NO_JOB}/images/0", "GET, HEAD"),
        (f"/jobs/{NO_JOB}/events", "GET"),
        ("/generate", "POST"),
        ("/models", "GET"),
        ("/models/tiny", "GET"),
        ("/", "GET, HEAD"),
        ("/static/page.js", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_what_a_path_can_do_is_told_in_full(api: httpx.Client, path: str, methods: str) -> None:
    for method in ("OPTIONS", "PUT"):
        answer = api.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)


def test_every_answer_tells_browsers_to_keep_to_themselves(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    settings = ApiSettings(
        redis_url=redis_url,
        models_dir=models_dir,
        store_url=str(tmp_path / "store"),
        api_keys_file=keys_file(tmp_path),
        allowed_hosts=frozenset({"127.0.0.1"}),
    )
    with running(settings) as api:
        answers = [
            api.get(path, headers=ALICE) for path in ("/", "/static/page.css", "/models", "/nothing", "/openapi.json")
        ]
        answers += [api.get("/models"), api.put("/models"), api.get("/models", headers={"Host": "evil.example"})]
        answers += [api.post("/generate?n=x", headers=ALICE), api.get("/healthz")]
    for answer in answers:
        headers = answer.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "X-Request-Id" in headers
        assert "Set-Cookie" not in headers
        assert "Strict-Transport-Security" not in headers  # the proxy's to say


def test_an_error_that_nobody_foresaw_is_told_without_its_reason_and_logged_once(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(queue: JobQueue) -> None:
        raise RuntimeError("/etc/secret")

    monkeypatch.setattr(JobQueue, "workers", fail)
    with caplog.at_level(logging.WARNING):
        answer = api.get("/models")
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert [record.getMessage() for record in caplog.records] == ["a request failed"]
    assert caplog.text.count("Traceback") == 1


def test_what_is_asked_for_makes_no_series_of_its_own(api: httpx.Client) -> None:
    def ask(number: int) -> None:
        api.get(f"/nothing/{number}")
        api.request(f"M{number}", "/models")
        api.get(f"/jobs/{number}")
        api.get(f"/models/{number}")
        api.get("/healthz", headers={"Host": f"h{number}.example", "X-Forwarded-For": str(number)})

    ask(0)
    first = api.get("/metrics").text
    for number in range(1, 200):
        ask(number)
    last = api.get("/metrics").text
    names = [[line.rpartition(" ")[0] for line in text.splitlines()] for text in (first, last)]
    of_metrics = [line for line in names[1] if 'route="/metrics"' in line]  # the first scrape had not counted itself
    assert set(names[1]) - set(names[0]) <= set(of_metrics)


def test_nothing_shows_a_key_or_a_password(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    settings = ApiSettings(
        redis_url=redis_url, models_dir=models_dir, store_url=str(tmp_path / "store"), api_keys_file=keys_file(tmp_path)
    )
    digest = keys_file(tmp_path).read_text().split()[1]
    with running(settings) as api:
        job = api.post("/generate", headers=ASYNC | ALICE).json()["links"]["self"]
        paths = (job, "/models", "/metrics", "/openapi.json", "/readyz", "/")
        shown = "".join(api.get(path, headers=ALICE).text + api.get(path, headers=BOB).text for path in paths)
    for secret in ("alice", digest, "redis.sock", str(tmp_path), str(models_dir)):
        assert secret not in shown
