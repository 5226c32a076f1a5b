"""Announces that difuso is ready: the API answers and a model is warm."""

import logging
import time
import urllib.request
from collections.abc import Sequence

import redis

from jobs.redis.workers import ModelReport, WorkerReport, live_reports

log = logging.getLogger(__name__)

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would look for our port at its own


class ReadyAnnouncement:
    """Writes the log line with the address of the API, once a worker has reported to Redis."""

    def __init__(self, redis_url: str, host: str, port: int) -> None:
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self._address = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
        self._client = redis.Redis.from_url(redis_url, socket_timeout=1)
        self._since = time.time()
        self._announced = False

    def announce(self) -> bool:
        """Logs the address if difuso is ready and it was not logged yet, and returns whether it did; call it often."""
        if self._announced or not self._api_answers():
            return False
        models = merged(self._reports())
        ready = sorted(name for name, model in models.items() if model.ready)
        if not ready:
            return False
        for name, model in models.items():
            if not model.ready:
                log.warning("model %s is not served: %s", name, model.reason)
        kind = "model" if len(ready) == 1 else "models"
        log.info("difuso is ready: %s  (%s %s, Ctrl-C stops)", self._address, kind, ", ".join(ready))
        self._announced = True
        return True

    def _reports(self) -> Sequence[WorkerReport]:
        """The workers' reports since we started: the last report of a worker killed earlier looks alive too."""
        try:
            return [report for report in live_reports(self._client) if report.at >= self._since]
        except redis.RedisError:
            return []

    def _api_answers(self) -> bool:
        try:
            with _direct.open(f"{self._address}/readyz", timeout=1):
                return True
        except OSError:
            return False


def merged(reports: Sequence[WorkerReport]) -> dict[str, ModelReport]:
    """Returns a report on each model by name: of a worker that serves it, if there is one."""
    found = [each for report in reports for each in report.models.items()]
    return dict(sorted(found, key=lambda each: each[1].ready))  # of several, a dict keeps the last
