"""Workers as processes of their own, on a real Redis: what is accepted is finished, whatever happens to them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import redis
from PIL import Image
from rq import Queue
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from difuso.family import Family
from difuso.redis_server import RedisServer
from jobs import keys
from jobs.contract import FailureCode, Job, JobState, Manifest, SamplingParams
from jobs.queue import JobQueue
from jobs.store import ResultStore
from jobs.tasks import Denoising, Generation, Picture, Task
from model import load_checkpoint, save_checkpoint
from tests.pictures import black_png, saved
from tests.waiting import wait_until
from worker.writers import Writers

ROOT = Path(__file__).parents[2]
RESULT_TTL = 3600
# An execution lives 15 s, recovery runs every 5 s and waits until Redis is 30 s old.
RECOVERY_SECONDS = 60
OUTAGE_SECONDS = 20


class Stack:
    """A Redis, a store, and as many workers as a test starts."""

    def __init__(self, redis_url: str, models_dir: Path, folder: Path) -> None:
        self.client = redis.Redis.from_url(redis_url)
        self.queue = JobQueue(self.client, result_ttl=RESULT_TTL)
        self.store = ResultStore(str(folder / "store"))
        self._folder = folder
        self._environment = os.environ | {
            "REDIS_URL": redis_url,
            "DIFUSO_MODELS_DIR": str(models_dir),
            "DIFUSO_STORE_URL": str(folder / "store"),
            "DIFUSO_DRAIN_SECONDS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "difuso", "worker"]
        with (self._folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def log(self, index: int) -> str:
        return (self._folder / f"worker-{index}.log").read_text()

    def submit(
        self,
        task: Task | None = None,
        sent: Sequence[bytes] = (),
        *,
        model: str = "tiny",
        timeout: int = 600,
        **params: object,
    ) -> str:
        filled = {"n": 1, "steps": 20, "sampler": "ddpm", "spacing": "linspace", "eta": 0.0, "seed": 0} | params
        job = Job(
            id=str(uuid.uuid4()),
            task=task or Generation(),
            model=model,
            params=SamplingParams.model_validate(filled),
            pictures=tuple(Picture(sha256=hashlib.sha256(png).hexdigest(), width=16, height=16) for png in sent),
            accepted_at=time.time(),
            timeout=timeout,
        )
        for png in sent:
            self.store.write_upload(job.id, png)
        assert self.queue.submit(job, request_hash="")
        return job.id

    def states(self, ids: list[str]) -> set[JobState]:
        return {self.queue.status(job_id).state for job_id in ids}

    def manifest(self, job_id: str) -> Manifest:
        manifest = self.store.manifest(job_id)
        assert manifest is not None
        return manifest

    def images(self, job_id: str) -> list[bytes]:
        manifest = self.manifest(job_id)
        return [self.store.image(manifest, index) for index in range(len(manifest.images))]

    def finish(self, ids: list[str], timeout: float) -> None:
        """Waits until every job has ended; all must have succeeded."""

        def over() -> bool:
            return all(state.is_terminal for state in self.states(ids))

        wait_until(over, timeout, "every job has ended")
        assert self.states(ids) == {JobState.SUCCEEDED}

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.client.close()


@pytest.fixture
def stack(redis_url: str, models_dir: Path, tmp_path: Path) -> Iterator[Stack]:
    with closing(Stack(redis_url, models_dir, tmp_path)) as stack:
        yield stack


def running(stack: Stack, ids: list[str]) -> bool:
    """Some job is well under way."""
    return any(stack.queue.status(job_id).progress.image_steps > 20 for job_id in ids)


@pytest.mark.timeout(180)
def test_kill_9_loses_nothing_and_changes_no_byte(stack: Stack) -> None:
    worker = stack.start_worker()
    calm = [stack.submit(seed=seed, steps=40) for seed in range(20)]
    stack.finish(calm, 60)
    ids = [stack.submit(seed=seed, steps=40) for seed in range(20)] + [stack.submit(seed=99, steps=1000)]
    wait_until(lambda: running(stack, ids), 20, "the jobs run")
    worker.kill()
    stack.start_worker()
    stack.finish(ids, RECOVERY_SECONDS + 60)
    for before, after in zip(calm, ids, strict=False):
        assert stack.images(before) == stack.images(after)
        assert stack.client.xlen(f"rq:results:{after}") == 1
    wait_until(lambda: not stack.client.hlen(keys.backlog("tiny")), 5, "the backlog is empty")


@pytest.mark.timeout(120)
def test_sigterm_hands_over_at_the_step_where_it_stopped(stack: Stack) -> None:
    first = stack.start_worker()
    ids = [stack.submit(seed=seed, steps=1000) for seed in range(4)]
    wait_until(lambda: running(stack, ids), 30, "the jobs run")
    first.send_signal(signal.SIGTERM)
    assert first.wait(15) == 0
    assert stack.states(ids) == {JobState.QUEUED}
    assert stack.queue.status(ids[0]).attempts == 0, "a hand-over must not use up a retry"
    second = stack.start_worker()
    stack.finish(ids, 90)
    assert all(stack.queue.status(job_id).progress.resumed_at > 0 for job_id in ids)
    second.send_signal(signal.SIGTERM)
    assert second.wait(15) == 0
    made = sum(int(re.findall(r"drained after (\d+)", stack.log(index))[0]) for index in (0, 1))
    assert 4000 <= made <= 1.02 * 4000


@pytest.mark.timeout(60)
def test_a_running_job_is_cancelled_and_stays_so(stack: Stack) -> None:
    stack.start_worker()
    job_id = stack.submit(steps=1000, n=8)
    wait_until(lambda: running(stack, [job_id]), 30, "the job runs")
    status = stack.queue.status(job_id)
    assert json.loads(status.timesteps or "") == list(range(999, -1, -1))
    assert (status.eta_seconds or 0) > 0
    stack.queue.cancel(job_id)
    wait_until(lambda: stack.states([job_id]) == {JobState.CANCELLED}, 5, "the job is cancelled")
    assert stack.queue.cancel(job_id).state is JobState.CANCELLED
    assert stack.store.manifest(job_id) is None
    wait_until(lambda: not stack.client.hlen(keys.backlog("tiny")), 5, "it is no longer in the backlog")


@pytest.mark.timeout(120)
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


@pytest.mark.timeout(60)
def test_a_job_waits_while_its_pictures_cannot_be_read(stack: Stack, tmp_path: Path) -> None:
    uploads, hidden = tmp_path / "store" / "uploads", tmp_path / "hidden"
    picture = saved(Image.new("RGB", (16, 16), "teal"), "PNG")
    job_id = stack.submit(Denoising(depth=400), [picture])
    hurried = stack.submit(Denoising(depth=400), [picture], timeout=1)
    uploads.rename(hidden)
    uploads.touch()  # no folder any more: an error of the store, where a missing file would be one of the job
    stack.start_worker()
    wait_until(lambda: "goes back to its queue" in stack.log(0), 30, "the worker has noticed")
    other = stack.submit()
    wait_until(lambda: stack.states([other]) == {JobState.SUCCEEDED}, 20, "another job has succeeded")
    wait_until(lambda: stack.states([hurried]) == {JobState.FAILED}, 20, "a job without time has been given up")
    assert stack.queue.status(hurried).failure is FailureCode.STORAGE
    uploads.unlink()
    hidden.rename(uploads)
    stack.finish([job_id], 20)
    assert stack.queue.status(job_id).attempts == 1


@pytest.mark.timeout(60)
def test_only_our_jobs_run(stack: Stack, tmp_path: Path) -> None:
    """Whoever can write to Redis cannot choose what a worker executes."""
    canary = tmp_path / "canary"
    queue = Queue(keys.queue_name("tiny", 3), connection=stack.client, serializer=JSONSerializer)
    planted = [
        queue.enqueue("os.system", f"touch {canary}"),
        queue.enqueue("difuso.job", job={"schema_version": 99}),
    ]
    stack.client.hset("rq:job:garbage", mapping={"data": "no job", "created_at": "never"})
    stack.client.rpush(queue.key, "garbage", "nothing")
    stack.start_worker()
    good = stack.submit()
    wait_until(lambda: stack.states([good]) == {JobState.SUCCEEDED}, 30, "the good job has succeeded")
    assert [job.get_status() for job in planted] == ["failed", "failed"]
    assert not canary.exists()
    assert stack.client.llen(f"{queue.key}:intermediate") == 0


def test_the_sweep_leaves_the_pictures_of_a_job_that_waits_however_long(stack: Stack, tmp_path: Path) -> None:
    """No worker has come for a day, and the first thing that it does is to sweep."""
    job_id = stack.submit(Denoising(sigma=20, depth=5), [black_png(16, 16)])
    (upload,) = Path(tmp_path, "store", "uploads").rglob("*.png")
    os.utime(upload, (0, 0))
    sweep(stack)
    assert upload.exists()
    stack.queue.cancel(job_id)
    sweep(stack)
    assert not upload.exists()


def sweep(stack: Stack) -> None:
    writers = Writers(stack.store, stack.client, lambda event: None)
    writers.sweep(500)
    writers.close()


@pytest.mark.timeout(60)
def test_a_worker_that_lost_its_job_does_not_settle_it(stack: Stack) -> None:
    """The fence: after a freeze its execution is gone, and somebody else may have the job."""
    stack.start_worker()
    job_id = stack.submit(steps=1000, n=4)
    wait_until(lambda: running(stack, [job_id]), 30, "the job runs")
    registry = StartedJobRegistry(keys.queue_name("tiny", 3), connection=stack.client, serializer=JSONSerializer)
    stack.client.delete(registry.key)
    wait_until(lambda: stack.store.manifest(job_id) is not None, 30, "the pictures are stored")
    other = stack.submit()
    wait_until(lambda: stack.states([other]) == {JobState.SUCCEEDED}, 20, "the worker has gone on")
    assert stack.queue.status(job_id).state is JobState.RUNNING
    assert stack.client.xlen(f"rq:results:{job_id}") == 0


@pytest.mark.timeout(60)
def test_a_job_over_its_time_fails_with_a_code(stack: Stack) -> None:
    stack.start_worker()
    wait_until(lambda: bool(stack.queue.workers()), 30, "the worker is ready")
    params = SamplingParams(n=64, steps=1000, sampler="ddpm", spacing="linspace", eta=0.0, seed=0)
    job = Job(id=str(uuid.uuid4()), model="tiny", params=params, accepted_at=0.0, timeout=1)
    stack.queue.submit(job, request_hash="")
    wait_until(lambda: stack.states([job.id]) == {JobState.FAILED}, 20, "the job has failed")
    status = stack.queue.status(job.id)
    assert status.failure is FailureCode.TIMEOUT
    assert status.attempts == 1, "it is not tried again"
    assert 0 < status.progress.image_steps < params.image_steps


@pytest.mark.timeout(60)
def test_a_worker_reports_what_it_serves_and_withdraws(stack: Stack) -> None:
    worker = stack.start_worker()
    wait_until(lambda: bool(stack.queue.workers()), 30, "the worker is ready")
    (report,) = stack.queue.workers()
    assert report.models["tiny"].ready
    assert report.models["tiny"].rate is not None
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert stack.queue.workers() == []


@pytest.mark.timeout(120)
def test_a_new_version_is_served_while_jobs_end_on_the_old(redis_url: str, models_dir: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(models_dir, models)
    old = load_checkpoint(models / "tiny")
    with closing(Stack(redis_url, models, tmp_path)) as stack:
        stack.start_worker()
        # They share the slots, so that none of them can be done before the new version is warm.
        before, *others = [stack.submit(steps=1000, n=8, seed=seed) for seed in range(8)]
        wait_until(lambda: running(stack, [before]), 30, "the jobs run")
        old.network.requires_grad_(False).get_parameter("conv_out.bias").add_(0.01)
        for name in ("tiny", "other"):
            save_checkpoint(models / name, old.config, old.network)
        newer = load_checkpoint(models / "tiny").sha256

        def served() -> set[str | None]:
            (report,) = stack.queue.workers()
            return {report.models[name].sha256 if name in report.models else None for name in ("tiny", "other")}

        wait_until(lambda: served() == {newer}, 40, "the new version and the new model are warm")
        assert stack.states([before]) == {JobState.RUNNING}
        for job_id in others:
            stack.queue.cancel(job_id)
        after = stack.submit()
        stack.finish([before, after], 60)
        assert stack.manifest(before).model_sha256 == old.sha256
        assert stack.manifest(after).model_sha256 == newer
        (models / "tiny" / "model.safetensors").write_bytes(b"no weights")
        wait_until(lambda: "model tiny is refused" in stack.log(0), 30, "the damaged version is refused")
        stack.finish([stack.submit(), stack.submit(model="other")], 20)


@pytest.mark.timeout(180)
def test_an_outage_of_redis_loses_nothing(models_dir: Path, tmp_path: Path) -> None:
    """Redis is killed under load, with jobs queued and running, and comes back with its append-only file."""
    with Family() as family:
        server = RedisServer(family, tmp_path / "redis")
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
