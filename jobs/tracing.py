"""Traces by OpenTelemetry, from an HTTP request to the work of its job.

They need the extra `otel`, and OpenTelemetry's own environment variables. Otherwise nothing is imported.
"""

import logging
import os
import sys
from importlib.metadata import version

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def start_tracing(process: str) -> bool:
    """Sends the spans of this process to the collector that the environment names; returns False if it names none.

    Its service name is `difuso-` and `process`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES give another.
    """
    if not any(map(os.environ.get, ENDPOINTS)):
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no traces are sent: OpenTelemetry is missing, which difuso's extra `otel` installs")
        return False
    ours = {"service.name": f"difuso-{process}", "service.version": version("difuso")}
    wanted = OTELResourceDetector().detect().attributes  # of the environment, which `Resource.create` would overrule
    provider = TracerProvider(resource=Resource.create({**ours, **wanted}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return True


def traceparent() -> str | None:
    """Returns the current span as in W3C Trace Context; None if there is no span."""
    if "opentelemetry.sdk.trace" not in sys.modules:  # tracing was not started
        return None
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get("traceparent")
