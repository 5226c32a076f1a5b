"""The metrics that front ends and workers have in common."""

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, disable_created_metrics

from .store.result_store import OPERATIONS, Observe

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
