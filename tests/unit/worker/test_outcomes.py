"""How jobs end."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
import redis
import torch

from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.store.result_store import ResultStore
from difuso.worker.engine.failures import Cancelled
from difuso.worker.queue.outcomes import Outcomes
from difuso.worker.queue.pacing import Pacer
from difuso.worker.queue.rq_worker import EngineWorker
from difuso.worker.queue.writers import GROUP_VALUES, Released, Stored, Writers
from difuso.worker.settings import WorkerSettings
from tests.waiting import wait_until


class Waits:
    """Writers whose store refuses every result that is in `refused`, and every file while it is `full`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, store_wait: float = 60.0) -> None:
        self.refused: set[Any] = set()
        self.full, self.encoded = True, list[Any]()
        self._events: queue.SimpleQueue[Stored | Released] = queue.SimpleQueue()

        def store_results(store: object, finished: Sequence[tuple[Any, object]]) -> Any:
            self.must_have_room()
            if not self.refused.isdisjoint(active for active, _ in finished):
                raise StoreUnavailable("it is too large for the disk")
            return ["spent" for _ in finished]

        store = ResultStore(str(folder))
        monkeypatch.setattr(store, "check", self.must_have_room)
        monkeypatch.setattr("difuso.worker.queue.writers.encode_result", self.encoded.append)
        monkeypatch.setattr("difuso.worker.queue.writers.store_results", store_results)
        monkeypatch.setattr("difuso.worker.queue.writers.PAUSE_SECONDS", 0.01)
        self.writers = Writers(store, cast(Any, None), self._hear, store_wait=store_wait)

    def _hear(self, events: Sequence[Stored | Released]) -> None:
        for event in events:
            self._events.put(event)

    def must_have_room(self) -> None:
        if self.full:
            raise StoreUnavailable("the disk is full")

    def store(self) -> Any:
        """Stores the result of a new job, and returns the job."""
        active: Any = Mock(cancel=False, values=1)
        self.writers.store(active)
        return active

    def next(self) -> Stored:
        event = self._events.get(timeout=10)
        assert isinstance(event, Stored)
        return event


@pytest.fixture
def waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Waits]:
    waits = Waits(tmp_path, monkeypatch)
    yield waits
    waits.writers.close()


def test_a_job_that_is_cancelled_while_it_waits_for_the_store_is_cancelled(waits: Waits) -> None:
    first, second = waits.store(), waits.store()
    second.cancel = True
    event = waits.next()
    assert event.active is second, "it waits behind no other"
    assert isinstance(event.error, Cancelled)
    waits.full = False
    assert waits.next().active is first


def test_results_wait_until_the_store_has_room_and_are_encoded_once(waits: Waits) -> None:
    jobs = [waits.store() for _ in range(5)]
    wait_until(lambda: len(waits.writers._waiting) == 5, 10, "all wait")
    waits.full = False
    events = [waits.next() for _ in jobs]
    assert {event.active for event in events} == set(jobs)
    assert {event.error for event in events} == {None}
    assert sorted(map(id, waits.encoded)) == sorted(map(id, jobs))


def test_a_result_that_the_store_refuses_holds_up_no_other(waits: Waits) -> None:
    waits.refused.add(large := waits.store())
    small = [waits.store() for _ in range(5)]
    waits.full = False
    assert {waits.next().active for _ in small} == set(small)
    small.append(waits.store())
    assert waits.next().active is small[-1], "nor one that comes later"
    waits.refused.clear()
    assert waits.next().active is large


class Group:
    """Writers whose thread is called by hand, and what they report at once; values[i] are those of job i."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, values: Sequence[int]) -> None:
        self.reported: list[Sequence[Stored | Released]] = []
        self.stored: list[list[int]] = []
        self.broken: set[int] = set()

        def store_results(store: object, finished: Sequence[tuple[Any, object]]) -> Any:
            self.stored.append([active.number for active, _ in finished])
            if not self.broken.isdisjoint(self.stored[-1]):
                raise ValueError
            return ["spent" for _ in finished]

        monkeypatch.setattr("difuso.worker.queue.writers.encode_result", lambda active: None)
        monkeypatch.setattr("difuso.worker.queue.writers.store_results", store_results)
        self.writers = Writers(ResultStore(str(folder)), cast(Any, None), self.reported.append, store_wait=60)
        self.writers._results = Mock()
        for number, each in enumerate(values):
            self.writers.store(cast(Any, SimpleNamespace(number=number, values=each)))

    def run(self, times: int = 1) -> None:
        for _ in range(times):
            self.writers._store_finished()


def test_small_jobs_that_end_together_are_stored_and_reported_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = GROUP_VALUES // 4
    group = Group(tmp_path, monkeypatch, [small, small, small, GROUP_VALUES, 5 * GROUP_VALUES, small])
    group.run(6)
    assert group.stored == [[0, 1, 2], [3], [4], [5]], "none waits for one that is large"
    assert [len(events) for events in group.reported] == [3, 1, 1, 1]
    assert cast(Mock, group.writers._results).submit.call_count == 6


def test_a_bucket_gets_the_result_of_each_job_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(tmp_path, monkeypatch, [1, 1])
    group.writers._store.is_local = False
    group.run(2)
    assert [len(events) for events in group.reported] == [1, 1]


def test_of_a_group_only_the_job_at_fault_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(tmp_path, monkeypatch, [1, 1, 1])
    group.broken = {1}
    group.run()
    events = [event for events in group.reported for event in events]
    assert [type(event.error) for event in events if isinstance(event, Stored)] == [type(None), ValueError, type(None)]


def test_a_job_fails_only_once_it_has_waited_for_as_long_as_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Waits(tmp_path, monkeypatch, store_wait=600)
    clock = time.monotonic()
    monkeypatch.setattr("difuso.worker.queue.writers.time.monotonic", lambda: clock)
    active = waits.store()
    clock += 599
    wait_until(lambda: len(waits.writers._waiting) == 1, 10, "it waits")
    clock += 2
    event = waits.next()
    waits.writers.close()
    assert event.active is active
    assert isinstance(event.error, StoreUnavailable)


def test_a_disk_on_which_redis_cannot_write_is_swept() -> None:
    """Redis refuses every write while its disk is full, and the results of the store may be what fills it."""
    worker = Mock(_pacer=Pacer(), _settings=WorkerSettings())
    worker.beat.side_effect = redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")
    with pytest.raises(redis.ResponseError):
        EngineWorker._beat(worker)
    worker._writers.sweep.assert_called_once()


def test_a_lost_device_that_a_writer_notices_first_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread ends with it, as with that of a reader: the jobs are for other workers."""
    lost, ended = torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), []

    def encode(active: object) -> None:
        raise lost

    monkeypatch.setattr("difuso.worker.queue.writers.encode_result", encode)
    events: queue.SimpleQueue[Sequence[Stored | Released]] = queue.SimpleQueue()
    writers = Writers(ResultStore(str(tmp_path)), cast(Any, None), events.put, store_wait=60)
    writers.store(cast(Any, SimpleNamespace(values=1)))
    (event,) = events.get(timeout=10)
    writers.close()
    outcomes = Outcomes(cast(Any, None), cast(Any, None), writers, cast(Any, None))
    monkeypatch.setattr(outcomes, "_end_of", lambda running, event, at: ended.append(event))
    with pytest.raises(torch.AcceleratorError) as caught:
        outcomes.end({cast(Any, object()): event})
    assert (caught.value, ended) == (lost, [])


def test_the_log_says_once_that_a_store_fails_until_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dropped: list[str] = []

    def drop_snapshot(job_id: str) -> None:
        dropped.append(job_id)
        if job_id != "c":
            raise StoreUnavailable

    store = ResultStore(str(tmp_path))
    monkeypatch.setattr(store, "drop_snapshot", drop_snapshot)
    writers = Writers(store, cast(Any, None), lambda event: None, store_wait=60)
    for job_id in "abcd":
        writers.forget(job_id)
    wait_until(lambda: len(caplog.records) == 2, 10, "the log has both failures")
    writers.close()
    assert dropped == ["a", "b", "c", "d"]
    assert {record.getMessage().partition(":")[0] for record in caplog.records} == {"cannot drop a snapshot"}
