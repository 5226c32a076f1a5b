"""API keys: who is let in, whose jobs are whose, and what no path and no header gets around."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIServer

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import start_http_server
from starlette.types import Message

from benchmarks.stack import free_port
from difuso.app.main import create_app, serve
from difuso.app.settings import ApiSettings
from tests.app_server import ALICE, BOB, OPERATOR, FakeWorker, keys_file, running

ASYNC = {"Prefer": "respond-async"}
OPEN = {"/healthz", "/readyz"}


@pytest.fixture
def settings(settings: ApiSettings, folder: Path) -> ApiSettings:
    return settings.model_copy(update={"api_keys_file": keys_file(folder)})


def test_every_route_but_the_open_ones_needs_a_key(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    routes = [(method, path) for path, operations in paths.items() for method in operations if path not in OPEN]
    routes += [("head", path) for method, path in routes if method == "get"]
    assert len(routes) == 40
    for method, path in routes:
        response = api.request(method, re.sub(r"{.*?}", "0", path))
        assert response.status_code == 401, (method, path)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="difuso"'
        answer = api.request(method, re.sub(r"{.*?}", "0", path), headers=OPERATOR | {"Prefer": "respond-async"})
        assert answer.status_code not in (401, 403), (method, path)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=b"])
def test_no_byte_of_a_body_is_read_without_a_key(settings: ApiSettings, content_type: str) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body is read")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", content_type.encode()), (b"content-length", b"1000000")]
    scope = {"type": "http", "method": "POST", "path": "/generate", "query_string": b"", "headers": headers}
    asyncio.run(create_app(settings)(scope, receive, send))
    assert sent[0]["status"] == 401


def test_what_is_open_says_nothing_about_the_inside(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(ready=True, rate=10.0)
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ok"}
    assert api.get("/readyz?verbose").json() == {"status": "ok", "redis": "ok", "store": "ok"}
    assert api.get("/").status_code == 200
    assert api.get("/openapi.json").json()["paths"]["/generate"]["post"]["security"]


def test_no_key_a_wrong_one_and_nonsense_get_the_same_answer(api: httpx.Client) -> None:
    answers = set()
    for value in (
        None,
        "",
        "Bearer",
        "Bearer wrong",
        "Bearer alice-keys",
        "Bearer alice-key, Bearer bob-key",
        "Bearer " + "x" * 10_000,
        "Bearer \u00e9\u00ff",
        "Basic YWxpY2U6YWxpY2Uta2V5",
        "Token alice-key",
        "alice-key",
    ):
        sent = [] if value is None else [(b"Authorization", value.encode("latin-1"))]
        response = api.get("/models", headers=sent)
        body = response.json()
        assert body.pop("request_id") == response.headers["X-Request-Id"]
        answers.add((response.status_code, response.headers["WWW-Authenticate"], str(body)))
    assert len(answers) == 1
    assert answers.pop()[0] == 401
    twice = [("Authorization", "Bearer alice-key"), ("Authorization", "Bearer bob-key")]
    assert api.get("/models", headers=twice).status_code == 401
    assert api.get("/models", params={"api_key": "alice-key"}, headers={"X-API-Key": "alice-key"}).status_code == 401
    assert api.get("/models", headers={"authorization": "bEaReR alice-key"}).status_code == 200


def test_jobs_of_others_do_not_exist(api: httpx.Client, worker: FakeWorker) -> None:
    running_one, done = (api.post("/generate", headers=ASYNC | ALICE).json() for _ in range(2))
    worker.succeed(done["id"])
    for job in (running_one, done):
        for path in ("", "/events", "/image", "/images/0"):
            response = api.get(f"/jobs/{job['id']}{path}", headers=BOB)
            unknown = api.get(f"/jobs/00000000-0000-4000-8000-000000000000{path}", headers=BOB)
            assert (response.status_code, response.json()["type"]) == (404, "/problems/job-not-found")
            assert response.json()["detail"] == unknown.json()["detail"]
        assert api.delete(f"/jobs/{job['id']}", headers=BOB).status_code == 404
        assert api.delete(f"/jobs/{job['id']}/images", headers=BOB).status_code == 404
    assert api.get(running_one["links"]["self"], headers=ALICE).json()["state"] == "queued"
    assert api.get(f"/jobs/{done['id']}/images/0", headers=ALICE).status_code == 200
    assert api.delete(running_one["links"]["self"], headers=ALICE).json()["state"] == "cancelled"


def test_an_operator_sees_and_ends_the_jobs_of_all(api: httpx.Client, worker: FakeWorker) -> None:
    queued, running_one, done = (api.post("/generate", headers=ASYNC | who).json() for who in (ALICE, BOB, ALICE))
    worker.start(running_one["id"])
    worker.succeed(done["id"])
    for path in ("", "/events", "/image", "/images/0"):
        mine = api.get(f"/jobs/{done['id']}{path}", headers=ALICE)
        shown = api.get(f"/jobs/{done['id']}{path}", headers=OPERATOR)
        assert (mine.status_code, shown.status_code) == (200, 200), path
        if "image" in path:
            assert shown.content == mine.content
    for job, owner in ((queued, "alice"), (running_one, "bob"), (done, "alice")):
        assert api.get(job["links"]["self"], headers=OPERATOR).json()["owner"] == owner
    assert "owner" not in api.get(done["links"]["self"], headers=ALICE).json()
    assert api.delete(queued["links"]["self"], headers=OPERATOR).json()["state"] == "cancelled"
    assert api.delete(running_one["links"]["self"], headers=OPERATOR).status_code == 202
    worker.cancel(running_one["id"])
    assert api.get(running_one["links"]["self"], headers=BOB).json()["state"] == "cancelled"
    assert api.delete(f"/jobs/{done['id']}/images", headers=OPERATOR).status_code == 204
    assert api.get(f"/jobs/{done['id']}/image", headers=ALICE).status_code == 410


def test_each_caller_has_idempotency_keys_of_its_own(api: httpx.Client) -> None:
    key = {**ASYNC, "Idempotency-Key": "mine"}
    first = api.post("/generate?n=2", headers=key | ALICE)
    assert api.post("/generate?n=3", headers=key | BOB).status_code == 202
    assert api.post("/generate?n=2", headers=key | ALICE).headers["Location"] == first.headers["Location"]
    assert api.post("/generate?n=3", headers=key | ALICE).status_code == 422


def test_jobs_from_before_there_were_keys_are_the_operators_alone(api: httpx.Client, settings: ApiSettings) -> None:
    with running(settings.model_copy(update={"api_keys_file": None})) as open_api:
        job = open_api.post("/generate", headers=ASYNC).json()["links"]["self"]
        assert open_api.get(job).status_code == 200
    assert api.get(job, headers=ALICE).status_code == 404
    shown = api.get(job, headers=OPERATOR)
    assert (shown.status_code, "owner" in shown.json()) == (200, False)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/models", {"Host": "x/healthz?"}, 401),
        ("/models", {"Host": "x/#"}, 401),
        ("/models", {"Host": "x:80/healthz?a="}, 401),
        (
            "/models",
            {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "X-Forwarded-Prefix": "/healthz"},
            401,
        ),
        ("/models", {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"}, 401),
        ("//models", {}, 404),
        ("/healthz/../models", {}, 404),
        ("/jobs/../metrics", {}, 404),
        ("/static/../metrics", {}, 404),
        ("/static/%2e%2e/main.py", {}, 404),
        ("/static/..%2fmain.py", {}, 404),
        ("/healthz%2f..%2fmodels", {}, 404),
        ("/%6dodels", {}, 401),
        ("/models%2ftiny", {}, 401),
        ("/models/", {}, 404),
        ("/MODELS", {}, 404),
        ("/models;x=/healthz", {}, 404),
        ("/models?x=/healthz", {}, 401),
        ("http://x/healthz?/../models", {}, 400),
    ],
)
def test_no_path_and_no_header_gets_around_the_key(
    api: httpx.Client, path: str, headers: dict[str, str], status: int
) -> None:
    assert raw(api, path, headers) == status


def raw(api: httpx.Client, path: str, headers: dict[str, str]) -> int:
    """The status of a request that no client library would send as it stands here."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in ({"Host": "x"} | headers).items())]
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=5) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return int(connection.recv(65536).split()[1])


def test_requests_for_another_host_are_refused_but_health_is_answered(api: httpx.Client, settings: ApiSettings) -> None:
    named = settings.model_copy(update={"allowed_hosts": frozenset({"pics.example", "[::1]"})})
    with running(named) as client:
        for host in (
            "evil.example",
            "",
            "pics.example.evil.example",
            "pics.example/x",
            "x@pics.example",
        ):
            assert raw(client, "/models", {"Host": host, **ALICE}) == 400, host
            assert raw(client, "/", {"Host": host}) == 400, host
            assert raw(client, "/healthz", {"Host": host}) == 200
            assert raw(client, "/readyz", {"Host": host}) == 200
        for host in ("pics.example", "Pics.Example:443", "[::1]:8000", "[::1]"):
            assert raw(client, "/models", {"Host": host, **ALICE}) == 200, host
        assert raw(client, "/models", {"Host": "pics.example"}) == 401


def test_a_page_that_was_rebound_to_this_machine_is_refused(settings: ApiSettings) -> None:
    """Without keys only the name distinguishes such a page's requests from one's own."""
    with running(settings.model_copy(update={"api_keys_file": None})) as client:
        assert raw(client, "/models", {"Host": "evil.example:8000"}) == 400
        assert raw(client, "/models", {"Host": "localhost:8000"}) == 200


def test_metrics_on_a_port_of_their_own_are_nowhere_else(
    settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"api_metrics_port": free_port()})
    apps: list[FastAPI] = []
    servers: list[tuple[WSGIServer, Thread]] = []
    monkeypatch.setattr("difuso.app.main.run", lambda app, **_: apps.append(app))
    monkeypatch.setattr("difuso.app.main.start_http_server", lambda *a, **k: servers.append(start_http_server(*a, **k)))
    serve(settings)
    (app,), ((server, _),) = apps, servers
    try:
        assert "/metrics" not in app.openapi()["paths"]
        metrics = httpx.get(f"http://127.0.0.1:{settings.api_metrics_port}/metrics").text
        assert "difuso_http_request_duration_seconds" in metrics
    finally:
        server.shutdown()
        server.server_close()
