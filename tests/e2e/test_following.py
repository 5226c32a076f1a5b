"""Following one request through all processes: in their logs, and as a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.app_server import ALICE, keys_file
from tests.serving import running
from tests.waiting import wait_until

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, Any]]]:
    """An OpenTelemetry collector; yields its address, and the spans of our trace by name as they come."""
    spans: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in sent.resource_spans:
                found = [span for scope in resource.scope_spans for span in scope.spans]
                spans.update({span.name: span for span in found if span.trace_id.hex() == TRACE})
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
@pytest.mark.usefixtures("redis_server")
def test_a_request_is_found_in_the_logs_of_all_processes_and_is_one_trace(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    environment |= {"DIFUSO_LOG_FORMAT": "json", "DIFUSO_API_KEYS_FILE": str(keys_file(tmp_path))}
    traced = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    with collector() as (endpoint, spans):
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with running(tmp_path, environment) as difuso:
            answer = httpx.post(f"{difuso.url}/generate?steps=3", headers=ALICE | traced, timeout=30)
            httpx.get(f"{difuso.url}/nothing%0d%0a12:00:00%20api%20all%20is%20well", headers=ALICE)
            assert answer.status_code == 200
            wait_until(lambda: '"status": 404' in difuso.output, timeout=10, description="the second one is logged")
            wait_until(lambda: {"job", "POST /generate"} <= spans.keys(), timeout=10, description="the spans come")
            output = difuso.output

    lines = [json.loads(line) for line in output.splitlines()]  # each is an event, whatever was asked for
    assert "alice-key" not in output
    assert {line["process"] for line in lines} == {"difuso", "api", "worker"}
    ours = [line for line in lines if line.get("request_id") == answer.headers["X-Request-Id"]]
    found = {(line["process"], line["event"]): line for line in ours}
    expected = {("api", "job accepted"), ("worker", "job claimed"), ("worker", "job ended"), ("api", "request")}
    assert found.keys() == expected
    request = found.pop(("api", "request"))
    assert {line["job_id"] for line in found.values()} == {answer.headers["X-Job-Id"]}
    ended = found["worker", "job ended"]
    work = [ended[name] for name in ("owner", "model", "images", "image_steps", "outcome")]
    assert work == ["alice", "tiny", 1, 3, "succeeded"]
    assert ended["seconds"] > 0
    assert ended["worker"].startswith("difuso-")
    facts = [request[name] for name in ("method", "route", "status", "key")]
    assert facts == ["POST", "/generate", 200, "alice"]

    assert spans.keys() == {"POST /generate", "job", "queue", "denoise", "encode", "store"}
    assert spans["POST /generate"].parent_span_id.hex() == CALLER
    assert spans["job"].parent_span_id == spans["POST /generate"].span_id
    assert spans["store"].parent_span_id == spans["job"].span_id
