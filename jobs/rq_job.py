"""RQ's job as we store it: data, and nothing that runs."""

from __future__ import annotations

from typing import Any

from rq.job import Job as RqJob

MAX_RETRIES = 2  # a job is started at most three times; one that kills its worker is then given up


class DataJob(RqJob):
    """A job without callbacks and webhooks, also where somebody who can write to Redis planted some.

    RQ would import and call the first and connect to the second, when a job ends and when it is recovered.
    """

    def restore(self, raw_data: Any) -> Any:
        restored = super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        return restored

    @property
    def should_retry(self) -> bool:
        """False: what a worker reports as failed would fail again. Jobs of dead workers are retried all the same."""
        return False
