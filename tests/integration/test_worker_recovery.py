"""Workers that die, and a Redis that goes away: what is accepted is finished, and only what is at fault fails."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from difuso.jobs.contract import JobState
from difuso.jobs.redis import keys
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer
from tests.waiting import wait_until
from tests.worker_stack import RECOVERY_SECONDS, Stack, running

OUTAGE_SECONDS = 20


@pytest.mark.timeout(180)
def test_kill_9_loses_nothing_and_changes_no_byte(stack: Stack) -> None:
    worker = stack.start_worker()
    calm = [stack.submit(seed=seed) for seed in range(4)]
    stack.finish(calm, 60)
    ids = [stack.submit(seed=seed) for seed in range(4)] + [stack.submit(seed=99, steps=400)]
    wait_until(lambda: running(stack, ids), 20, "the jobs run")
    worker.kill()
    stack.start_worker()
    stack.finish(ids, RECOVERY_SECONDS + 60)
    for before, after in zip(calm, ids, strict=False):
        assert stack.images(before) == stack.images(after)
        assert stack.client.xlen(f"rq:results:{after}") == 1
    wait_until(lambda: not stack.client.hlen(keys.backlog(stack.tiny.ref)), 5, "the backlog is empty")


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_kill_9_costs_a_long_job_only_its_last_seconds(stack: Stack) -> None:
    worker = stack.start_worker()
    job_id = stack.submit(n=64, steps=1000)
    wait_until(lambda: stack.store.snapshot(job_id) is not None, 40, "a snapshot was saved")
    worker.kill()
    done = stack.queue.status(job_id).progress.image_steps
    stack.start_worker()
    wait_until(lambda: stack.queue.status(job_id).progress.resumed_at > 0, RECOVERY_SECONDS, "the job goes on")
    assert stack.queue.status(job_id).progress.resumed_at > done / 2
    stack.queue.cancel(job_id)
    wait_until(lambda: stack.states([job_id]) == {JobState.CANCELLED}, 5, "the job is cancelled")
    wait_until(lambda: stack.store.snapshot(job_id) is None, 5, "its snapshot is gone")


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_an_outage_of_redis_loses_nothing(models_dir: Path, tmp_path: Path) -> None:
    """Redis is killed under load, with jobs queued and running, and comes back with its append-only file."""
    with ChildProcesses() as children:
        server = RedisServer(children, tmp_path / "redis")
        with closing(server), closing(Stack(server.url, models_dir, tmp_path)) as stack:
            process = server.start()
            stack.start_worker()
            ids = [stack.submit(seed=seed, steps=200, n=2) for seed in range(20)]
            wait_until(lambda: running(stack, ids), 30, "the jobs run")
            process.kill()
            process.wait()
            gone_at = time.monotonic()
            wait_until(lambda: time.monotonic() > gone_at + OUTAGE_SECONDS, 2 * OUTAGE_SECONDS, "the outage is over")
            server.start()
            stack.finish(ids, 90)
            assert {stack.client.xlen(f"rq:results:{job_id}") for job_id in ids} == {1}


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_worker_that_is_to_stop_does_not_wait_for_a_redis_that_hangs(models_dir: Path, tmp_path: Path) -> None:
    with ChildProcesses() as children:
        server = RedisServer(children, tmp_path / "redis")
        with closing(server), closing(Stack(server.url, models_dir, tmp_path)) as stack:
            process = server.start()
            worker = stack.start_worker()
            job_id = stack.submit(n=64, steps=1000)
            wait_until(lambda: running(stack, [job_id]), 60, "the job runs")
            process.send_signal(signal.SIGSTOP)
            worker.terminate()
            assert worker.wait(60) == 1
            assert "read_from_socket" in stack.log(0), "it ends where it waits, before the call has failed three times"
            process.send_signal(signal.SIGCONT)
            stack.start_worker()
            wait_until(lambda: stack.queue.status(job_id).progress.resumed_at > 0, RECOVERY_SECONDS, "the job goes on")
