"""Workers as processes of their own, on a real Redis: what they do with jobs."""

from __future__ import annotations

import json
import os
import re
import signal
import uuid
from pathlib import Path

import pytest
from rq import Queue
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from difuso.jobs.contract import FailureCode, Job, JobState
from difuso.jobs.kinds.denoise import Denoising
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis import keys
from difuso.worker.queue.writers import Writers
from tests.pictures import black_png
from tests.waiting import wait_until
from tests.worker_stack import Stack, running

# A worker that gets SIGTERM while it waits for events, and hears it only when that wait should be over.
HEARING_LATE = """
import os, signal, threading, time
from difuso.worker.queue import rq_worker
from difuso.worker.queue.rq_worker import EngineWorker

rq_worker.POLL_SECONDS = 0.5
hear, read = EngineWorker.request_stop, EngineWorker._read_inbox

def hear_late(worker, *signal):
    time.sleep(2 * rq_worker.POLL_SECONDS)
    hear(worker, *signal)

def read_interrupted(worker):
    if worker._running:
        EngineWorker._read_inbox = read
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    read(worker)

EngineWorker.request_stop, EngineWorker._read_inbox = hear_late, read_interrupted
"""


@pytest.mark.timeout(120)
def test_a_worker_that_hears_sigterm_late_hands_over_all_the_same(stack: Stack) -> None:
    job_id = stack.submit(n=64, steps=1000)
    assert stack.start_worker(first=HEARING_LATE).wait(60) == 0
    assert stack.states([job_id]) == {JobState.QUEUED}


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_sigterm_hands_over_at_the_step_where_it_stopped(stack: Stack) -> None:
    first = stack.start_worker()
    ids = [stack.submit(seed=seed, steps=1000) for seed in range(4)]
    wait_until(lambda: running(stack, ids), 30, "the jobs run")
    first.send_signal(signal.SIGTERM)
    assert first.wait(15) == 0
    assert stack.states(ids) == {JobState.QUEUED}
    handed_over = stack.queue.status(ids[0])
    assert handed_over.attempts == 0, "a hand-over must not use up a retry"
    second = stack.start_worker()
    stack.finish(ids, 90)
    assert all(stack.queue.status(job_id).progress.resumed_at > 0 for job_id in ids)
    finished = stack.queue.status(ids[0])
    assert finished.started_at == handed_over.started_at
    assert finished.progress.denoise_seconds > handed_over.progress.denoise_seconds > 0
    second.send_signal(signal.SIGTERM)
    assert second.wait(15) == 0
    made = sum(int(re.findall(r"drained after (\d+)", stack.log(index))[0]) for index in (0, 1))
    assert 4000 <= made <= 1.02 * 4000


@pytest.mark.timeout(60)
def test_only_our_jobs_run(stack: Stack, tmp_path: Path) -> None:
    """Whoever can write to Redis cannot choose what a worker executes."""
    canary = tmp_path / "canary"
    queue = Queue(stack.tiny_queue, connection=stack.client, serializer=JSONSerializer)
    planted = [
        queue.enqueue("os.system", f"touch {canary}"),
        queue.enqueue("difuso.job", job={"contract": 99}),
    ]
    stack.client.hset("rq:job:garbage", mapping={"data": "no job", "created_at": "never"})
    stack.client.rpush(queue.key, "garbage", "nothing")
    stack.start_worker()
    good = stack.submit()
    wait_until(lambda: stack.states([good]) == {JobState.SUCCEEDED}, 30, "the good job has succeeded")
    assert [job.get_status() for job in planted] == ["failed", "failed"]
    assert not canary.exists()
    assert stack.client.llen(f"{queue.key}:intermediate") == 0


@pytest.mark.timeout(60)
def test_a_running_job_is_cancelled_and_stays_so(stack: Stack) -> None:
    stack.start_worker()
    job_id = stack.submit(steps=1000, n=8)
    wait_until(lambda: running(stack, [job_id]), 30, "the job runs")
    status = stack.queue.status(job_id)
    assert json.loads(stack.queue.status(status.job.id, timesteps=True).timesteps or "") == list(range(999, -1, -1))
    assert (status.eta_seconds or 0) > 0
    stack.queue.cancel(job_id)
    wait_until(lambda: stack.states([job_id]) == {JobState.CANCELLED}, 5, "the job is cancelled")
    assert stack.queue.cancel(job_id).state is JobState.CANCELLED
    assert stack.store.manifest(job_id) is None
    wait_until(lambda: not stack.client.hlen(keys.backlog(stack.tiny.ref)), 5, "it is no longer in the backlog")


def test_the_sweep_leaves_the_pictures_of_a_job_that_waits_however_long(stack: Stack, tmp_path: Path) -> None:
    """No worker has come for a day, and the first thing that it does is to sweep."""
    job_id = stack.submit(Denoising(sigma=20, depth=5), [black_png(16, 16)])
    (upload,) = (path for path in Path(tmp_path, "store", "uploads").rglob("*") if path.is_file())
    os.utime(upload, (0, 0))
    sweep(stack, tmp_path)
    assert upload.exists()
    stack.queue.cancel(job_id)
    sweep(stack, tmp_path)
    assert not upload.exists()


def sweep(stack: Stack, folder: Path) -> None:
    """Until it is done: what is left of an old check goes last."""
    last = folder / "store" / "checks" / "old"
    last.parent.mkdir(exist_ok=True)
    last.touch()
    os.utime(last, (0, 0))
    writers = Writers(stack.store, stack.client, lambda event: None, store_wait=60)
    writers.sweep(500)
    wait_until(lambda: not last.exists(), 10, "the sweep is over")
    writers.close()


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_worker_lets_go_of_a_job_that_it_lost_and_does_not_end_it(stack: Stack) -> None:
    """The fence: after a freeze its execution is gone, and somebody else may have the job."""
    stack.start_worker()
    job_id = stack.submit(n=64, steps=1000)
    wait_until(lambda: running(stack, [job_id]), 30, "the job runs")
    registry = StartedJobRegistry(stack.tiny_queue, connection=stack.client, serializer=JSONSerializer)
    stack.client.delete(registry.key)
    wait_until(lambda: "given to another worker" in stack.log(0), 30, "the worker has noticed, long before the end")
    other = stack.submit()
    wait_until(lambda: stack.states([other]) == {JobState.SUCCEEDED}, 20, "the worker has gone on")
    status = stack.queue.status(job_id)
    assert status.state is JobState.RUNNING
    assert 0 < status.progress.image_steps < status.job.image_steps
    assert stack.store.manifest(job_id) is None
    assert stack.client.xlen(f"rq:results:{job_id}") == 0


@pytest.mark.timeout(60)
def test_a_job_over_its_time_fails_with_a_code(stack: Stack) -> None:
    stack.start_worker()
    wait_until(lambda: bool(stack.queue.workers()), 30, "the worker is ready")
    params = SamplingParams(n=64, steps=1000, sampler="ddpm", spacing="linspace", eta=0.0, seed=0)
    versions = stack.tiny.versions
    job = Job(id=str(uuid.uuid4()), model="tiny", versions=versions, params=params, accepted_at=0.0, timeout=1)
    stack.queue.submit(job, request_hash="")
    wait_until(lambda: stack.states([job.id]) == {JobState.FAILED}, 20, "the job has failed")
    status = stack.queue.status(job.id)
    assert status.failure is FailureCode.TIMEOUT
    assert status.attempts == 1, "it is not tried again"
    assert 0 < status.progress.image_steps < job.image_steps


@pytest.mark.timeout(60)
def test_a_worker_reports_what_it_serves_and_withdraws(stack: Stack) -> None:
    worker = stack.start_worker()
    wait_until(lambda: bool(stack.queue.workers()), 30, "the worker is ready")
    (report,) = stack.queue.workers()
    (tiny,) = report.models
    assert tiny.ready
    assert tiny.newest
    assert tiny.rate is not None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert stack.queue.workers() == []
