"""The traces and the metrics that front ends and workers have in common.

Traces by OpenTelemetry lead from an HTTP request to the work of its job. They need the extra `otel`, and
OpenTelemetry's own environment variables. Otherwise nothing of it is imported.
"""

import logging
import os
import platform
import sys
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, disable_created_metrics

from .store.result_store import OPERATIONS, Observe

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


ADDRESS_OK = "1 if the models are those of their address; 0 while it is away, or one of them cannot be fetched"
STORE_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60)


def add_versions(registry: CollectorRegistry) -> None:
    """Registers the versions that this process runs.

    No metric of the process gets a `_created` series from then on: it would double the series of counters and
    histograms, and Prometheus asks none of them.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    build = Info("difuso_build", "Versions of difuso and of Python", registry=registry)
    build.info({"version": version("difuso"), "python_version": platform.python_version()})


def add_store_metrics(registry: CollectorRegistry | None) -> Observe:
    """Registers the metrics of a result store, and returns the observer that counts its operations."""
    duration = Histogram(
        "difuso_store_seconds", "One operation of the result store", ["op"], buckets=STORE_BUCKETS, registry=registry
    )
    errors = Counter(
        "difuso_store_errors", "Operations of the result store that failed or took too long", ["op"], registry=registry
    )
    for operation in OPERATIONS:
        duration.labels(operation)
        errors.labels(operation)

    def observe(operation: str, seconds: float, failed: bool) -> None:
        duration.labels(operation).observe(seconds)
        errors.labels(operation).inc(failed)

    return observe
