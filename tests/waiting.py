"""Waiting for conditions."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def wait_until(predicate: Callable[[], object], timeout: float, description: str) -> None:
    """Waits for a condition, and fails with its name; a sleep would be too long on most machines and too short on one.

    The longer it takes, the less often the condition is read, because the process that fulfils it needs the processor.

    For example `wait_until(lambda: queue.status(job).state.is_terminal, timeout=10, description="the job has ended")`.
    """
    started = time.monotonic()
    while not predicate():
        waited = time.monotonic() - started
        if waited > timeout:
            pytest.fail(f"after {timeout:g} s it was still not so that {description}")
        time.sleep(min(max(0.01, waited / 10), 0.1))
