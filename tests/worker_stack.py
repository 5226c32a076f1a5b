"""Workers as processes of their own, for tests that kill them."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from difuso.jobs import understanding
from difuso.jobs.catalog import ModelInfo, read_catalog
from difuso.jobs.contract import DEFAULT_URGENCY, Job, JobState, Manifest, Picture
from difuso.jobs.kinds.base import Task
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis.keys import QueueName
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.store.result_store import ResultStore
from tests.forking import Command
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
RESULT_TTL = 3600
RECOVERY_SECONDS = 60  # several times what it takes to find out that a worker died


class Stack:
    """A Redis, a store, and as many workers as a test starts."""

    def __init__(self, redis_url: str, models_dir: Path, folder: Path, store: Path | None = None) -> None:
        self.client = redis.Redis.from_url(redis_url)
        self.queue = JobQueue(self.client, result_ttl=RESULT_TTL)
        store = store or folder / "store"
        self.store = ResultStore(str(store))
        self._folder = folder
        self._models_dir = models_dir
        self._environment = os.environ | {
            "REDIS_URL": redis_url,
            "DIFUSO_MODELS_DIR": str(models_dir),
            "DIFUSO_STORE_URL": str(store),
            "DIFUSO_DRAIN_SECONDS": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.workers: list[Command] = []

    def start_worker(self, first: str = "", **settings: object) -> Command:
        """Starts one more worker with further settings; see `Command` for `first`."""
        log = self._folder / f"worker-{len(self.workers)}.log"
        environment = self._environment | {f"DIFUSO_{name.upper()}": str(value) for name, value in settings.items()}
        worker = Command(["worker"], environment=environment, folder=ROOT, log=log, first=first)
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
        trace: tuple[int, ...] = (),
        versions: tuple[str, ...] = (),
        pinned: bool = False,
        owner: str | None = None,
        **params: object,
    ) -> str:
        task = task or Generation()
        names = (model,) if task.second_stage is None else (model, task.second_stage.model)
        versions = versions or tuple(self.model(name).version for name in names)
        filled = {"n": 1, "steps": 20, "sampler": "ddpm", "spacing": "linspace", "eta": 0.0, "seed": 0} | params
        job = Job(
            id=str(uuid.uuid4()),
            task=task,
            model=model,
            versions=versions,
            pinned=pinned,
            owner=owner,
            params=SamplingParams.model_validate(filled),
            pictures=tuple(Picture(sha256=hashlib.sha256(png).hexdigest(), width=16, height=16) for png in sent),
            accepted_at=time.time(),
            timeout=timeout,
            trace=trace,
        )
        job = job.model_copy(update={"contract": understanding.number_of(job.needs)})
        for picture, png in zip(job.pictures, sent, strict=True):
            self.store.write_upload(job.id, picture.sha256, png)
        assert self.queue.submit(job, request_hash="")
        return job.id

    @property
    def tiny_queue(self) -> str:
        """The name of the queue of model `tiny` with the usual urgency."""
        return str(QueueName(self.tiny.ref, 1, DEFAULT_URGENCY))

    @property
    def tiny(self) -> ModelInfo:
        return self.model("tiny")

    def model(self, name: str) -> ModelInfo:
        return read_catalog(self._models_dir).models[name]

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

    def runs(self, job_id: str) -> bool:
        """Returns whether the newest worker has started the job."""
        name: Any = self.client.hget(f"rq:job:{job_id}", "worker_name") or b""
        return bool(name.startswith(b"difuso-%d-" % self.workers[-1].pid))

    def in_flight(self) -> list[str]:
        """Returns the jobs of model `tiny` with the usual urgency that some worker has started."""
        entries: Any = self.client.zrange(f"rq:wip:{self.tiny_queue}", 0, -1)
        return [entry.decode().partition(":")[0] for entry in entries]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.client.close()


def running(stack: Stack, ids: list[str]) -> bool:
    """Some job is well under way."""
    return any(stack.queue.status(job_id).progress.image_steps > 20 for job_id in ids)
