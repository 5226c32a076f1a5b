"""Spans of jobs, and nothing of them where nobody asks."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from typing import cast

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from difuso.jobs.contract import Job
from difuso.jobs.params import SamplingParams
from difuso.jobs.telemetry import start_tracing
from difuso.worker.engine.active import ActiveJob
from difuso.worker.engine.results import Spent
from difuso.worker.job_start import JobStart
from difuso.worker.spans import JobSpans
from difuso.worker.stepping.runner import Runner

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PARAMS = SamplingParams(n=2, steps=5, sampler="ddim", spacing="leading", eta=0, seed=0)


def written(outcome: str, spent: Spent | None, *, traceparent: str | None) -> dict[str, ReadableSpan]:
    """The spans of a job that was accepted four seconds ago and claimed three seconds ago."""
    exporter, provider, now = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False), time.time()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    job = Job(id=ID, model="tiny", params=PARAMS, accepted_at=now - 4, timeout=1, traceparent=traceparent)
    runner = cast("Runner", None)  # spans are of the job, not of its model
    active = ActiveJob(job, runner, JobStart([]), claimed_at=now - 3, denoise_seconds=1.5, network_calls=5)
    JobSpans(provider).left(active, outcome, spent)
    return {span.name: span for span in exporter.get_finished_spans()}


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return round((span.end_time - span.start_time) / 1e9, 1)


def test_a_job_belongs_to_its_request_and_its_parts_follow_each_other() -> None:
    spent = Spent(encode_seconds=0.5, store_seconds=0.25, ended_at=time.time(), manifest=None)
    spans = written("succeeded", spent, traceparent=f"00-{TRACE}-{PARENT}-01")
    job = spans.pop("job")
    assert job.context is not None
    assert job.parent is not None
    assert (f"{job.context.trace_id:032x}", f"{job.parent.span_id:016x}") == (TRACE, PARENT)
    assert [*spans] == ["queue", "denoise", "encode", "store"]
    assert all(part.parent is not None and part.parent.span_id == job.context.span_id for part in spans.values())
    assert [seconds(part) for part in spans.values()] == [
        1.0,
        pytest.approx(2.2, abs=0.11),
        0.5,
        pytest.approx(0.25, abs=0.06),
    ]
    parts = list(spans.values())
    assert all(before.end_time == after.start_time for before, after in pairwise(parts))
    assert dict(spans["denoise"].attributes or {})["difuso.network_calls"] == 5
    assert dict(job.attributes or {})["difuso.job.id"] == ID


def test_a_job_is_the_message_that_a_worker_consumes_and_names_have_a_namespace() -> None:
    """As OpenTelemetry's conventions for messaging want it."""
    spans = written("succeeded", None, traceparent=None)
    kinds = {name: span.kind for name, span in spans.items()}
    assert kinds == {"job": SpanKind.CONSUMER, "queue": SpanKind.INTERNAL, "denoise": SpanKind.INTERNAL}
    facts = dict(spans["job"].attributes or {})
    assert {name: value for name, value in facts.items() if name.startswith("messaging.")} == {
        "messaging.system": "rq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "difuso.tiny@.1.3",
        "messaging.message.id": ID,
    }
    named = {name.partition(".")[0] for span in spans.values() for name in span.attributes or ()}
    assert named == {"messaging", "difuso"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"service.name": "difuso-api", "service.version": version("difuso")}),
        ({"OTEL_SERVICE_NAME": "pictures"}, {"service.name": "pictures", "service.version": version("difuso")}),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,service.version=7,deployment.environment.name=test"},
            {"service.name": "ours", "service.version": "7", "deployment.environment.name": "test"},
        ),
    ],
)
def test_what_the_environment_says_of_the_service_has_precedence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: dict[str, str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made: list[TracerProvider] = []
    monkeypatch.setattr(trace, "set_tracer_provider", made.append)
    assert start_tracing("api")
    (provider,) = made
    provider.shutdown()
    assert expected.items() <= provider.resource.attributes.items()
    assert provider.resource.attributes["telemetry.sdk.language"] == "python"


@pytest.mark.slow
def test_nothing_that_writes_spans_is_loaded_where_no_collector_is_named() -> None:
    # redis-py loads other parts of OpenTelemetry where they are installed.
    code = (
        "import sys, difuso.worker.queue.rq_worker; from difuso.jobs import telemetry;"
        "assert not telemetry.start_tracing('worker') and telemetry.traceparent() is None;"
        "sys.exit(any(name.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_collector_without_the_extra_is_reported_and_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.WARNING):
        assert not start_tracing("api")
    assert "extra `otel`" in caplog.text
