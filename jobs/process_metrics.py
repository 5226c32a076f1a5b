"""The metrics that front ends and workers have in common."""

import platform
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics


def add_process_metrics(registry: CollectorRegistry) -> None:
    """Registers the metrics of this process, and the versions that it runs.

    No metric of the process gets a `_created` series from then on: it would double the series of counters and
    histograms, and Prometheus asks none of them.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ProcessCollector(registry=registry)
    build = Info("difuso_build", "Versions of difuso and of Python", registry=registry)
    build.info({"version": version("difuso"), "python_version": platform.python_version()})
