"""Announces that difuso is ready: the API answers and a model is warm."""

import logging
import urllib.request
from collections.abc import Sequence

import redis

from difuso.jobs.redis.workers import ModelReport, WorkerReport, live_reports

log = logging.getLogger(__name__)

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would look for our port at its own


def announce(host: str, port: int, client: redis.Redis, *, since: float) -> bool:
    """Logs the address of the API if it answers and a worker has reported a warm model; returns whether it did.

    Reports from before `since` do not count: the last one of a worker killed earlier looks alive, too.
    """
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    try:
        with _direct.open(f"{address}/readyz", timeout=1):
            models = merged([report for report in live_reports(client) if report.at >= since])
    except (OSError, redis.RedisError):
        return False
    ready = sorted(name for name, model in models.items() if model.ready)
    if not ready:
        return False
    for name, model in models.items():
        if model.reason is not None:
            log.warning("model %s is not served: %s", name, model.reason)
    kind = "model" if len(ready) == 1 else "models"
    log.info("difuso is ready: %s  (%s %s, Ctrl-C stops)", address, kind, ", ".join(ready))
    return True


def merged(reports: Sequence[WorkerReport]) -> dict[str, ModelReport]:
    """Returns a report on each model by name: of a worker that serves it, if there is one."""
    found = [each for report in reports for each in report.models]
    return {each.name: each for each in sorted(found, key=lambda each: each.ready)}  # of several, a dict keeps the last
