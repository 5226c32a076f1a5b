"""Requests that mean no good, and what every answer says to browsers."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import httpx
import pytest

from difuso.app.http import protocol
from difuso.app.settings import ApiSettings
from tests.app_server import ALICE, BOB, FakeWorker, keys_file, running
from tests.waiting import wait_until

ASYNC = {"Prefer": "respond-async"}
MEGABYTE = 1 << 20
NO_JOB = "00000000-0000-4000-8000-000000000000"


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


def sized(size: int) -> bytes:
    """A request whose head has so many bytes."""
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n"
    return head % (b"a" * (size - len(head % b"")))


def said(api: httpx.Client, *requests: bytes) -> bytes:
    """All that the server says to this, until it hangs up."""
    heard = b""
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as client, suppress(OSError):
        client.sendall(b"".join(requests))
        while part := client.recv(65536):
            heard += part
    return heard


def test_a_head_has_16_kilobytes_however_it_arrives(api: httpx.Client) -> None:
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert said(api, sized(16_000), last).count(b"HTTP/1.1 200") == 2
    for size in (17_000, 79_000):
        assert b"HTTP/1.1 200" not in said(api, sized(size), last)
        assert said(api, sized(100), sized(size), last).count(b"HTTP/1.1 200") <= 1


def test_what_never_reaches_the_application_is_answered_as_a_problem(api: httpx.Client) -> None:
    for request in (
        sized(17_000),
        b"GET /jobs?label=%s HTTP/1.1\r\nHost: a\r\n\r\n" % (17_000 * b"a"),
        b"nonsense\r\n\r\n",
    ):
        head, _, body = said(api, request).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"content-type: application/problem+json" in head
        found = json.loads(body)
        assert (found["type"], found["status"]) == ("/problems/malformed-request", 400)
        assert f"x-request-id: {found['request_id']}".encode() in head


def test_which_host_a_request_is_for_is_said_once(api: httpx.Client) -> None:
    for hosts in (b"", b"Host: localhost\r\nHost: evil.example\r\n"):
        assert said(api, b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n").startswith(b"HTTP/1.1 400")
    assert said(api, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


CHUNKED = b"Host: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n"
CRUMBS, EXTENSIONS, TRAILERS = 100_000 * b"1\r\nx\r\n", b"1;" + 600_000 * b"a", b"0\r\n" + 100_000 * b"X: a\r\n"


@pytest.mark.parametrize("what", [CRUMBS, EXTENSIONS, TRAILERS], ids=["crumbs", "extensions", "trailers"])
@pytest.mark.parametrize("line", [b"POST /generate", b"POST /interpolate", b"GET /healthz", b"POST /nothing"])
def test_what_surrounds_a_body_is_bounded(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, line: bytes, what: bytes
) -> None:
    parsed = 0
    take = protocol.DeadlineProtocol.on_body

    def count(connection: protocol.DeadlineProtocol, body: bytes) -> None:
        nonlocal parsed
        parsed += 1
        take(connection, body)

    monkeypatch.setattr(protocol.DeadlineProtocol, "on_body", count)
    heard = said(api, line + b" HTTP/1.1\r\n" + CHUNKED, what)  # and it hangs up
    assert heard.count(b"HTTP/1.1") <= 1
    assert parsed <= protocol.FREE_PIECES + 8
    assert api.get("/healthz").status_code == 200


def test_a_body_may_come_in_small_pieces(api: httpx.Client) -> None:
    pieces = [b"--b\r\n", b'Content-Disposition: form-data; name="nobody"\r\n\r\n', *(1_000 * [100 * b"x"])]
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = api.post("/interpolate", content=iter(pieces), headers=form)
    assert (answer.status_code, answer.json()["errors"][0]["part"]) == (422, "nobody")
    trailer = b"POST /nothing HTTP/1.1\r\n" + CHUNKED + b"0\r\nX-Late: a\r\n\r\n"
    assert said(api, trailer, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").endswith(b"}")


@pytest.mark.parametrize(
    "end",
    [
        b"Content-Length: 7\r\nConnection: close\r\n\r\nno form",
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n7\r\nno form\r\n0\r\n\r\n",
    ],
)
def test_a_wish_for_another_protocol_loses_no_body(api: httpx.Client, end: bytes) -> None:
    """Java's client sends it with its first request, whatever that is."""
    form = b"Host: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    heard = said(api, b"POST /interpolate HTTP/1.1\r\n" + form + wish + end)
    assert heard.startswith(b"HTTP/1.1 400")
    assert b"malformed-body" in heard
    last = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    wishing = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + wish + b"\r\n"
    assert said(api, 20 * wishing, last).count(b"HTTP/1.1 200") == 21
    assert said(api, b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_an_answer_before_the_end_of_the_body_is_the_last(api: httpx.Client) -> None:
    """And it arrives, although the client goes on for a while."""
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as client:
        client.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n")
        for _ in range(4):
            client.sendall(MEGABYTE * b"a")
        heard = b""
        while part := client.recv(65536):
            heard += part
    assert heard.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in heard.lower()


def test_whoever_goes_on_after_an_answer_for_longer_than_a_request_may_take_is_cut_off(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "RECEIVE_SECONDS", 0.2)
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as client:
        client.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            any(map(client.sendall, repeat(MEGABYTE * b"a")))  # for ever


def test_answers_that_nobody_reads_take_bounded_memory(
    api: httpx.Client, worker: FakeWorker, settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client that has lagged for longest is cut off, the others get all that they asked for."""
    monkeypatch.setattr(protocol, "MAX_UNSENT", 32 * MEGABYTE)
    job_id = api.post("/generate", headers=ASYNC).json()["id"]
    worker.succeed(job_id)
    (image,) = Path(settings.store_url).rglob("0.png")
    image.write_bytes(bytes(16 * MEGABYTE))  # of which the system's own buffers hold a few
    clients = []
    for _ in range(4):
        client = socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=20)
        client.sendall(b"GET /jobs/%s/images/0 HTTP/1.1\r\nHost: localhost\r\n\r\n" % job_id.encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        clients.append(client)
    got = []
    for client in clients:
        size = 0
        with client, suppress(ConnectionResetError):
            while size < 16 * MEGABYTE and (more := client.recv(MEGABYTE)):
                size += len(more)
        got.append(size >= 16 * MEGABYTE)
    assert got == [False, False, True, True]


def test_a_client_that_dawdles_is_cut_off(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "RECEIVE_SECONDS", 0.2)
    begun = (
        b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\nabc"
    )
    for start in (b"", b"GET /healthz HT", begun):
        with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=5) as dawdler:
            dawdler.sendall(start)
            assert dawdler.recv(1) == b""
    monkeypatch.undo()  # a busy machine may need longer for a request, too
    assert api.get("/healthz").status_code == 200


def test_a_client_that_does_not_read_its_answers_is_cut_off(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[object] = []
    lose = protocol.DeadlineProtocol.connection_lost

    def note(connection: protocol.DeadlineProtocol, error: Exception | None) -> None:
        cut.append(connection)
        lose(connection, error)

    monkeypatch.setattr(protocol, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(protocol.DeadlineProtocol, "connection_lost", note)
    with slow_reader(api, 60):
        wait_until(lambda: cut, timeout=10, description="the connection is gone")
    assert api.get("/healthz").status_code == 200


@pytest.mark.long
def test_a_client_that_reads_slowly_gets_all_of_its_answer(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SEND_SECONDS", 0.4)
    monkeypatch.setattr(protocol, "SEND_BYTES", 1)
    # Less than the 4 MB that Linux buffers: it calls a sender only when a third of a full buffer is free again.
    with slow_reader(api, 40) as reader:
        started, received = time.monotonic(), b""
        while received.count(b"HTTP/1.1 200") < 40 or not received.endswith(b"}"):
            read = reader.recv(65536)
            assert read
            received += read
        assert time.monotonic() - started > protocol.SEND_SECONDS  # so it was looked at


def slow_reader(api: httpx.Client, requests: int) -> socket.socket:
    """Returns a connection with a small buffer, on which so many requests were sent."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((api.base_url.host, api.base_url.port or 80))
    reader.sendall(requests * b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return reader


def test_nobody_is_led_to_the_host_that_the_request_names(settings: ApiSettings) -> None:
    with running(settings.model_copy(update={"allowed_hosts": frozenset({"evil.example"})})) as named:
        for path in ("/models/", "/generate/", "/static", "/healthz/", "/models/tiny/"):
            answer = named.get(path, headers={"Host": "evil.example"})
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
            assert "Location" not in answer.headers


def test_head_is_answered_as_get_is_but_without_a_body(api: httpx.Client, worker: FakeWorker) -> None:
    done, waiting = (api.post("/generate", headers=ASYNC).json()["id"] for _ in range(2))
    worker.succeed(done)
    paths = [f"/jobs/{done}{path}" for path in ("", "/events", "/image", "/images/0", "/images/1")]
    for path in (*paths, "/jobs", "/models", "/models/tiny", "/models/x", "/healthz", "/readyz", "/", "/openapi.json"):
        get, head = api.get(path), api.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        changing = {"date", "x-request-id", "connection", "transfer-encoding"}
        assert set(head.headers.items()) ^ set(get.headers.items()) <= {
            (name, value) for name, value in (*head.headers.items(), *get.headers.items()) if name in changing
        }, path
    assert api.head(f"/jobs/{waiting}/events").headers["Content-Type"].startswith("text/event-stream")  # at once
    assert api.head("/metrics").status_code == 200
    assert api.head("/generate").status_code == 405
    assert 'method="HEAD",route="/jobs/{job_id}",status="200"} 1.0' in api.get("/metrics").text


def test_every_answer_keeps_browsers_to_themselves(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
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


def test_what_is_asked_for_makes_no_series_of_its_own(api: httpx.Client) -> None:
    def ask(number: int) -> None:
        api.get(f"/nothing/{number}")
        api.request(f"M{number}", "/models")
        api.get(f"/jobs/{number}")
        api.get(f"/models/{number}")
        api.get("/healthz", headers={"Host": f"h{number}.example", "X-Forwarded-For": str(number)})

    ask(0)
    first = api.get("/metrics").text
    for number in range(1, 20):
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
