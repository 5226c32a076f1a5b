"""Traces by OpenTelemetry, from a request over HTTP to the work of its job, for those who ask for them.

They ask with OpenTelemetry's own variables, and by installing `difuso[otel]`. Otherwise nothing is imported here.
"""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def start_tracing(process: str) -> bool:
    """Sends this process's spans to the collector that the environment names; False if it names none.

    Args:
        process: by which its spans are known, unless OTEL_SERVICE_NAME says otherwise.
    """
    if not any(map(os.environ.get, ENDPOINTS)):
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no traces, though a collector is named: they need `pip install 'difuso[otel]'`")
        return False
    name = os.environ.get("OTEL_SERVICE_NAME", f"difuso-{process}")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


def traceparent() -> str | None:
    """The current span, as W3C Trace Context writes it; None if there is none."""
    if "opentelemetry.sdk.trace" not in sys.modules:  # without which no span is recorded
        return None
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get("traceparent")
