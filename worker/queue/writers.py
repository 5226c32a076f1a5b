"""Writer threads: they encode images and write to the result store, while the main thread sends its heartbeats."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock, Thread

import redis

from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.redis.events import preview_channel
from difuso.jobs.redis.status import needs_uploads
from difuso.jobs.store.result_store import ResultStore

from ..device.cores import use_one_core
from ..engine.active import ActiveJob, Previewed, Snapped
from ..engine.failures import Cancelled
from ..engine.results import Encoded, Spent, encode_result, preview_message, store_results
from ..stepping.trajectory import encode_snapshot

log = logging.getLogger(__name__)

THREADS = 2
GROUP_VALUES = 1 << 18  # of the images of a group: twenty of 64x64 pixels take some 20 ms
PAUSE_SECONDS = 0.5  # between two looks at the results that wait for the store


@dataclass(frozen=True, eq=False)
class Stored:
    """The images of a job are in the store, or could not be stored because of `error`."""

    active: ActiveJob
    spent: Spent | None = None
    error: BaseException | None = None


@dataclass(frozen=True, eq=False)
class Released:
    """The state of a job is in the store, or could not be saved; another worker may continue the job."""

    active: ActiveJob


@dataclass(frozen=True, eq=False)
class Unstored:
    """The result of a job, which may wait `until` a time on the monotonic clock."""

    active: ActiveJob
    encoded: Encoded
    until: float


class WaitingResults:
    """Results that could not be stored, which are kept: to draw their images again would cost more than to wait.

    A thread watches them as long as there are any. Once the store takes a file, all of them are tried again. So a
    result that the store refuses for a reason of its own holds up none of the others.

    Args:
        store: the store that they wait for.
        retry: starts to store a result again, and does not block.
        give_up: ends a job that was cancelled, or whose time to wait is over, with this error.
    """

    def __init__(
        self, store: ResultStore, retry: Callable[[Unstored], object], give_up: Callable[[ActiveJob, Exception], None]
    ) -> None:
        self._store = store
        self._retry = retry
        self._give_up = give_up
        self._lock = Lock()
        self._waiting: list[Unstored] = []
        self._is_watched = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, result: Unstored, error: StoreUnavailable | None = None) -> None:
        """Keeps a result that could not be stored because of an error, or that others are waiting before."""
        with self._lock:
            self._waiting.append(result)
            if self._is_watched:
                return
            self._is_watched = True
        log.warning("finished jobs wait for the store", extra={"error": repr(error and error.__cause__)})
        Thread(target=self._watch, name="waiting results", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(PAUSE_SECONDS)
            for result in self._take(lambda each: each.active.cancel or time.monotonic() > each.until):
                error = Cancelled() if result.active.cancel else StoreUnavailable("it took no file for too long")
                self._give_up(result.active, error)
            if self._waiting and self._takes_files():
                for result in self._take(lambda each: True):
                    self._retry(result)
            with self._lock:
                if not self._waiting:
                    self._is_watched = False
                    return

    def _take(self, wanted: Callable[[Unstored], bool]) -> list[Unstored]:
        with self._lock:
            taken = [each for each in self._waiting if wanted(each)]
            self._waiting = [each for each in self._waiting if each not in taken]
        return taken

    def _takes_files(self) -> bool:
        try:
            self._store.check()
        except StoreUnavailable:
            return False
        return True


class Writers:
    """Threads that write to the store and publish previews.

    They `report` events by a function that must not block. A result waits for the store for `store_wait` seconds. The
    results of small jobs that end together are synchronised on a disk, and reported, together.
    """

    def __init__(
        self,
        store: ResultStore,
        client: redis.Redis,
        report: Callable[[Sequence[Stored | Released]], None],
        *,
        store_wait: float,
    ) -> None:
        self._store = store
        self._store_wait = store_wait
        self._client = client
        self._report = report
        self._finished: deque[ActiveJob] = deque()  # at most as many as calls of `_store_finished` are to come
        self._results = ThreadPoolExecutor(THREADS, thread_name_prefix="results", initializer=use_one_core)
        self._waiting = WaitingResults(
            store,
            retry=lambda result: self._results.submit(self._try_to_store, [result]),
            give_up=lambda active, error: report([Stored(active, error=error)]),
        )
        # A single thread writes the snapshots of a job in order, and none after the job's snapshot was deleted.
        self._snapshots = ThreadPoolExecutor(1, thread_name_prefix="snapshots", initializer=use_one_core)
        self._previews = ThreadPoolExecutor(1, thread_name_prefix="previews", initializer=use_one_core)
        self._saving: set[ActiveJob] = set()
        self._failing: set[str] = set()  # what has failed the last time
        self._sweeping = Lock()

    def store(self, active: ActiveJob) -> None:
        """Stores a finished job under the name of this attempt."""
        self._finished.append(active)
        self._results.submit(self._store_finished)

    def snapshot(self, event: Snapped) -> None:
        """Saves a job's state, and then sends `Released` if the engine has let go of the job.

        While a slow store is busy with a job's last snapshot, the next one is left out.
        """
        if event.released or event.active not in self._saving:
            self._saving.add(event.active)
            self._snapshots.submit(self._do_snapshot, event)

    def preview(self, event: Previewed) -> None:
        """Publishes an unfinished image to the clients that watch the job."""
        self._previews.submit(self._do_preview, event)

    def forget(self, job_id: str) -> None:
        """Deletes the snapshot of a job that has ended."""
        self._snapshots.submit(self._attempt, lambda: self._store.drop_snapshot(job_id), "drop a snapshot")

    def sweep(self, max_age: float) -> None:
        """Deletes files older than `max_age` seconds, except uploads whose job waits, runs, or has not expired.

        It runs in a thread that nobody waits for, because it may take long.
        """
        Thread(target=self._do_sweep, args=[max_age], name="sweep", daemon=True).start()

    def close(self) -> None:
        """Accepts no more work; the process ends when the work in progress is done."""
        for pool in (self._results, self._snapshots, self._previews):
            pool.shutdown(wait=False)

    def _store_finished(self) -> None:
        encoded = [self._encode(active) for active in self._take_group()]
        if failed := [each for each in encoded if isinstance(each, Stored)]:
            self._report(failed)
        results = [each for each in encoded if isinstance(each, Unstored)]
        if results and not self._waiting:
            self._try_to_store(results)
            return
        for result in results:
            self._waiting.add(result)  # a store that hangs would hold this thread

    def _take_group(self) -> list[ActiveJob]:
        """Takes the jobs that have finished first, and are small together; none if another thread has taken all."""
        # A bucket takes each file by itself, and the other thread may as well send the next one.
        group, room = list[ActiveJob](), GROUP_VALUES if self._store.is_local else 0
        with suppress(IndexError):
            while not group or room > 0:
                active = self._finished.popleft()
                room -= active.values
                if group and room < 0:
                    self._finished.appendleft(active)
                else:
                    group.append(active)
        return group

    def _encode(self, active: ActiveJob) -> Unstored | Stored:
        try:
            return Unstored(active, encode_result(active), until=time.monotonic() + self._store_wait)
        except Exception as error:
            return Stored(active, error=error)

    def _try_to_store(self, results: Sequence[Unstored]) -> None:
        try:
            spent = store_results(self._store, [(each.active, each.encoded) for each in results])
            stored = [Stored(each.active, its) for each, its in zip(results, spent, strict=True)]
        except StoreUnavailable as error:
            for result in results:
                self._waiting.add(result, error)
            return
        except Exception as error:
            if len(results) > 1:  # whose fault it is shows alone
                for result in results:
                    self._try_to_store([result])
                return
            stored = [Stored(results[0].active, error=error)]
        self._report(stored)

    def _do_snapshot(self, event: Snapped) -> None:
        job, run = event.active.job, event.active.run_sha256
        self._attempt(
            lambda: self._store.save_snapshot(job.id, encode_snapshot(event.snapshot, run)),
            "save a snapshot",
        )
        self._saving.discard(event.active)
        if event.released:
            self._report([Released(event.active)])

    def _do_sweep(self, max_age: float) -> None:
        if not self._sweeping.acquire(blocking=False):
            return  # the last sweep still runs
        try:
            needed = partial(needs_uploads, self._client, result_ttl=max_age)
            self._attempt(lambda: self._store.sweep(max_age, needed=needed), "sweep")
        finally:
            self._sweeping.release()

    def _do_preview(self, event: Previewed) -> None:
        message = preview_message(event.active, event.index, event.x0)
        try:
            self._client.publish(preview_channel(event.active.job.id), message)
        except redis.RedisError:
            log.debug("a preview was lost")

    def _attempt(self, call: Callable[[], object], what: str) -> None:
        """Makes a call that may fail without harm, and logs the failure, which a thread pool would swallow.

        While a store fails, each job meets it many times: the log says so once, until a call succeeds again.
        """
        try:
            call()
        except (StoreUnavailable, redis.RedisError) as error:
            if what not in self._failing:
                log.warning("cannot %s: the store or Redis does not answer (%s)", what, type(error).__name__)
            self._failing.add(what)
        except Exception:
            log.exception("cannot %s", what)
        else:
            self._failing.discard(what)
