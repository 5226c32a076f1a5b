"""Workers whose store hangs, and workers that have to stop: nobody waits for what does not come."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import s3fs

from difuso.jobs.contract import JobState
from difuso.jobs.store.result_store import ResultStore
from tests.waiting import wait_until
from tests.worker_stack import RECOVERY_SECONDS, Stack, running

# moto in a process of its own, which can be stopped: connections are then accepted, and nothing is ever answered.
BUCKETS = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
threading.Event().wait()
"""
# A worker whose main thread hangs once a file is there.
HANGING = """
import threading
from pathlib import Path
from difuso.worker.queue import watchdog
from difuso.worker.queue.reporting import Reporter

watchdog.CALL_SECONDS = 5.0

def hang(reporter):
    if Path({hang!r}).exists():
        threading.Event().wait()

Reporter.tidy_backlog = hang
"""
# A worker whose writers find at the first image that the GPU is gone.
LOSING = """
import torch
from difuso.worker.engine import results

def lose(*arguments, **options):
    raise torch.AcceleratorError("CUDA error: device unavailable")

results.to_png = lose
"""


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A server of buckets; the environment names it."""
    with subprocess.Popen([sys.executable, "-c", BUCKETS], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.stdout.readline().strip())
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
        server.send_signal(signal.SIGCONT)
        server.kill()


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_bucket_that_never_answers_stops_neither_neighbours_nor_the_end(
    redis_url: str, models_dir: Path, tmp_path: Path, buckets: subprocess.Popen[str]
) -> None:
    bucket = f"test-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    with closing(Stack(redis_url, models_dir, tmp_path)) as stack:
        stack.store = ResultStore(f"s3://{bucket}/difuso")
        stack._environment["DIFUSO_STORE_URL"] = f"s3://{bucket}/difuso"
        worker = stack.start_worker()
        first = stack.submit(n=64, steps=1000)
        wait_until(lambda: running(stack, [first]), 60, "the first job runs")
        buckets.send_signal(signal.SIGSTOP)
        stack.store = ResultStore(str(tmp_path / "elsewhere"))  # so that only the worker meets the bucket
        second = stack.submit(sent=[b"an upload"])
        wait_until(lambda: stack.states([second]) == {JobState.RUNNING}, 20, "the second job is being opened")
        done = stack.queue.status(first).progress.image_steps
        wait_until(lambda: stack.queue.status(first).progress.image_steps > done + 200, 20, "its neighbour steps on")
        third = stack.submit(sent=[b"an upload"])
        wait_until(lambda: stack.states([third]) == {JobState.RUNNING}, 20, "the third job is being opened")
        stack.queue.cancel(third)
        wait_until(lambda: stack.states([third]) == {JobState.CANCELLED}, 10, "the third job is cancelled")
        worker.terminate()
        wait_until(lambda: stack.states([second]) == {JobState.QUEUED}, 10, "what was being opened is handed back")
        assert worker.wait(30) == 1, "the first job's state cannot be saved, so another worker must find out"
        assert "the result store does not answer" in stack.log(0)


@pytest.mark.timeout(180)
def test_a_job_that_is_cancelled_while_its_worker_drains_ends_at_once(stack: Stack) -> None:
    stack._environment["DIFUSO_DRAIN_SECONDS"] = "3600"
    worker = stack.start_worker()
    job_id = stack.submit(n=64, steps=1000)
    wait_until(lambda: running(stack, [job_id]), 60, "the job runs")
    worker.terminate()
    more = stack.queue.status(job_id).progress.image_steps + 200
    wait_until(lambda: stack.queue.status(job_id).progress.image_steps > more, 30, "it runs on")
    stack.queue.cancel(job_id)
    wait_until(lambda: stack.states([job_id]) == {JobState.CANCELLED}, 10, "the job is cancelled")
    assert worker.wait(30) == 0


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_worker_whose_main_thread_hangs_is_replaced(stack: Stack, tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    worker = stack.start_worker(first=HANGING.format(hang=str(hang)))
    job_id = stack.submit(n=64, steps=1000)
    wait_until(lambda: running(stack, [job_id]), 60, "the job runs")
    hang.touch()
    assert worker.wait(60) == 1
    said = stack.log(0)
    assert "its main thread has done nothing" in said
    assert "in hang" in said, "it says where"


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_worker_whose_writers_lose_the_gpu_is_replaced(stack: Stack) -> None:
    worker = stack.start_worker(first=LOSING)
    job_id = stack.submit()
    assert worker.wait(60) == 1
    assert "device unavailable" in stack.log(0)
    assert stack.states([job_id]) == {JobState.RUNNING}, "it is not ended, but for another worker"
    stack.start_worker()
    stack.finish([job_id], RECOVERY_SECONDS)
    assert len(stack.images(job_id)) == 1


@pytest.mark.timeout(120)
def test_a_worker_that_loads_models_ends_cleanly(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    many = tmp_path / "models"
    for index in range(50):
        shutil.copytree(models_dir / "tiny", many / f"tiny{index}")
    with closing(Stack(redis_url, many, tmp_path)) as stack:
        worker = stack.start_worker()
        wait_until(lambda: "serving tiny0 first" in stack.log(0), 60, "the first model is served")
        worker.terminate()
        assert worker.wait(20) == 0
        assert stack.log(0).count("is warm") < 50
