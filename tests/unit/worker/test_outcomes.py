"""How jobs end."""

from __future__ import annotations

import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
import redis
import torch

from jobs.errors import StoreUnavailable
from jobs.store.result_store import ResultStore
from worker.engine.failures import Cancelled
from worker.queue.outcomes import Outcomes
from worker.queue.pacing import Pacer
from worker.queue.rq_worker import EngineWorker
from worker.queue.writers import Released, Stored, Writers


def test_a_job_that_is_cancelled_while_it_waits_for_the_store_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    active, pauses = SimpleNamespace(cancel=False), list[float]()

    def store(*arguments: object) -> None:
        raise StoreUnavailable("the disk is full")

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        active.cancel = len(pauses) == 2

    monkeypatch.setattr("worker.queue.writers.store_result", store)
    monkeypatch.setattr("worker.queue.writers.time.sleep", sleep)
    events: queue.SimpleQueue[Stored | Released] = queue.SimpleQueue()
    writers = Writers(ResultStore(str(tmp_path)), cast(Any, None), events.put)
    writers.store(cast(Any, active))
    event = events.get(timeout=10)
    writers.close()
    assert isinstance(event, Stored)
    assert isinstance(event.error, Cancelled)
    assert len(pauses) == 2


def test_a_disk_on_which_redis_cannot_write_is_swept() -> None:
    """Redis refuses every write while its disk is full, and the results of the store may be what fills it."""
    worker = Mock(_pacer=Pacer(), _result_ttl=60)
    worker.beat.side_effect = redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")
    with pytest.raises(redis.ResponseError):
        EngineWorker._beat(worker)
    worker._writers.sweep.assert_called_once()


def test_a_lost_device_that_a_writer_notices_first_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread ends with it, as with that of a reader: the jobs are for other workers."""
    lost, ended = torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), []

    def store(*arguments: object) -> None:
        raise lost

    monkeypatch.setattr("worker.queue.writers.store_result", store)
    events: queue.SimpleQueue[Stored | Released] = queue.SimpleQueue()
    writers = Writers(ResultStore(str(tmp_path)), cast(Any, None), events.put)
    writers.store(cast(Any, SimpleNamespace()))
    event = events.get(timeout=10)
    writers.close()
    outcomes = Outcomes(cast(Any, None), cast(Any, None), writers, cast(Any, None))
    monkeypatch.setattr(outcomes, "fail", lambda running, error: ended.append(error))
    with pytest.raises(torch.AcceleratorError) as caught:
        outcomes.end({cast(Any, object()): event})
    assert (caught.value, ended) == (lost, [])
