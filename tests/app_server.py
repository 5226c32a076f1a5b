"""The real application behind a real server, for tests; and a worker's writes, without a worker."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import redis
import uvicorn
from fastapi import FastAPI
from PIL import Image
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer
from rq.utils import now

from benchmarks.stack import free_port
from difuso.app.http.protocol import DeadlineProtocol
from difuso.app.main import create_app
from difuso.app.settings import ApiSettings
from difuso.jobs.catalog import read_catalog
from difuso.jobs.contract import DEFAULT_URGENCY, FailureCode, ImageFile, JobState, Manifest, Progress
from difuso.jobs.kinds import KINDS
from difuso.jobs.redis import keys
from difuso.jobs.redis.events import ANNOUNCE, Ending, listener_channel, status_channel
from difuso.jobs.redis.job_records import LISTENER
from difuso.jobs.redis.keys import QueueName, queue_key
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.status import STATES
from difuso.jobs.redis.usage import COUNT
from difuso.jobs.redis.workers import ModelReport, WorkerReport, publish_report
from difuso.jobs.store.result_store import ResultStore
from difuso.jobs.understanding import understood_here
from tests.forking import Command
from tests.waiting import wait_until

NAMES = ("alice", "bob", "oscar")
ALICE, BOB, OPERATOR, CAROL = ({"Authorization": f"Bearer {name}-key"} for name in (*NAMES, "carol"))


def keys_file(folder: Path, limits: str = "") -> Path:
    """Writes the keys of alice, who has limits, of bob, who has none, and of oscar, who is an operator."""
    alice, bob, oscar = map(key_line, NAMES)
    path = folder / "keys"
    path.write_text(f"{alice} {limits}\n{bob}\n{oscar} role=operator\n")
    return path


def training_keys_file(folder: Path) -> Path:
    """Writes the same keys, of which alice and the operator may train, and that of carol, who may train, too."""
    path = keys_file(folder, "may=train")
    path.write_text(f"{path.read_text()}{key_line('carol')} may=train\n")
    return path


def key_line(name: str) -> str:
    """Returns the line of the keys file for the key NAME-key."""
    return f"{name} {hashlib.sha256(f'{name}-key'.encode()).hexdigest()}"


def running(settings: ApiSettings) -> AbstractContextManager[httpx.Client]:
    """Yields a client of the application."""
    return serving(create_app(settings))


@contextmanager
def serving(app: FastAPI) -> Iterator[httpx.Client]:
    """Yields a client of any application, which runs in a thread of this process."""
    config = uvicorn.Config(app, port=0, log_config=None, ws="none", http=DeadlineProtocol, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, timeout=20, description="the API serves")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def api_process(redis_url: str, models_dir: Path, folder: Path) -> Iterator[tuple[Command, httpx.Client]]:
    """Yields the application as a process of its own, with its store in the folder, and a client of it."""
    port = free_port()
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "DIFUSO_PORT": str(port),
        "DIFUSO_MODELS_DIR": str(models_dir),
        "DIFUSO_STORE_URL": str(folder / "store"),
    }
    process = Command(["api"], environment=environment, folder=folder)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

            def serves() -> bool:
                with suppress(httpx.TransportError):
                    return client.get("/models").status_code == 200
                return False

            wait_until(serves, 60, "the API serves")
            yield process, client
    finally:
        process.kill()
        process.wait()


class FrontEnd:
    """The application for the tests of a module: it is started again only for a test that needs other settings."""

    def __init__(self) -> None:
        self._settings: ApiSettings | None = None
        self._url = ""
        self._running = ExitStack()

    def url(self, settings: ApiSettings) -> str:
        """Returns the address of the application with these settings."""
        if settings != self._settings:
            self.close()
            self._url = str(self._running.enter_context(running(settings)).base_url)
            self._settings = settings
        return self._url

    def close(self) -> None:
        self._running.close()


class FakeWorker:
    """Does by hand what a worker does to Redis and the store."""

    def __init__(self, settings: ApiSettings) -> None:
        self.client = redis.Redis.from_url(settings.redis_url)
        self._models_dir = settings.models_dirs[0]
        self._store = ResultStore(settings.store_url)
        self._queue = JobQueue(self.client, result_ttl=settings.result_ttl)

    def report(self, *, name: str = "fake", of: str = "tiny", ready: bool = True, **facts: Any) -> None:
        """Reports that the worker lives, and its verdict on a model, in the version of the models folder."""
        model = read_catalog(self._models_dir).models[of]
        found = ModelReport(**{"name": of, "version": model.version, "newest": ready, "ready": ready, **facts})
        known = understood_here(KINDS)
        report = WorkerReport(name=name, at=time.time(), slots=8, understands=known, models=(found,))
        publish_report(self.client, report)

    def ref(self, model: str = "tiny") -> str:
        """Returns the short name of the version of a model in the models folder."""
        return read_catalog(self._models_dir).models[model].ref

    @property
    def queue_key(self) -> str:
        """The key of the queue of model `tiny` with the usual urgency."""
        return queue_key(QueueName(self.ref(), 1, DEFAULT_URGENCY))

    def start(self, job_id: str, *, done: int = 0) -> None:
        """Takes a job out of its queue."""
        rq_job = self._fetch(job_id)
        self.client.lrem(f"rq:queue:{rq_job.origin}", 1, job_id)
        rq_job.started_at = now()
        rq_job.save()
        rq_job.set_status(RqStatus.STARTED)
        self.client.set(keys.timesteps(job_id), "[500, 0]")
        self._publish(job_id, Progress(image_steps=done))

    def succeed(self, job_id: str) -> None:
        """Stores grey images and ends the job."""
        self.start(job_id)
        self._store_pictures(job_id)
        self._end(job_id, RqStatus.FINISHED, Progress(denoise_seconds=0.5, encode_seconds=0.01))

    def announce(self, job_id: str) -> None:
        """Stores grey images and announces the end of the job, which its record does not show yet."""
        self.start(job_id)
        self._store_pictures(job_id)
        ending = Ending(state=JobState.SUCCEEDED, started_at=1, ended_at=3, attempts=1, progress=Progress())
        self._announce(job_id, ending.model_dump_json())

    def is_awaited(self, job_id: str) -> bool:
        """Returns whether a front end hears of the end of the job: a request waits for it, or follows it."""
        followed = self.client.pubsub_numsub(status_channel(job_id))[0][1] == 1
        return followed or self.client.hexists(RqJob.key_for(job_id), LISTENER)

    def nobody_listens(self) -> bool:
        """Returns whether no front end listens to any job; each listens to its own channel as long as it runs."""
        own = listener_channel("").encode()
        channels: list[Any] = self.client.pubsub_channels("difuso:*:*")
        return all(channel.startswith(own) for channel in channels)

    def _store_pictures(self, job_id: str) -> None:
        job = self._queue.status(job_id).job
        images = []
        for index in range(job.params.n):
            file = io.BytesIO()
            Image.new("RGB", (16, 16), (index, index, index)).save(file, "PNG")
            png = file.getvalue()
            path = self._store.write_image(job_id, "1", index, png)
            digest = hashlib.sha256(png).hexdigest()
            images.append(ImageFile(path=path, seed=job.params.seed_of(index), sha256=digest))
        self._store.commit_all([Manifest(job=job, timesteps=(500, 0), images=tuple(images), finished_at=time.time())])

    def fail(self, job_id: str, code: FailureCode) -> None:
        """Ends the job without images."""
        self.start(job_id)
        self._end(job_id, RqStatus.FAILED, Progress(failure=code))

    def cancel(self, job_id: str) -> None:
        """Ends a running job that is to be cancelled."""
        assert self.client.exists(keys.cancel(job_id))
        self._end(job_id, RqStatus.CANCELED, Progress())

    def publish(self, channel: str, message: str) -> None:
        """Publishes a message to all listeners."""
        self.client.publish(channel, message)

    def _end(self, job_id: str, status: RqStatus, progress: Progress) -> None:
        rq_job = self._fetch(job_id)
        rq_job.ended_at = now()
        rq_job.save()
        rq_job.set_status(status)
        self.client.hdel(keys.backlog(self._queue.status(job_id).job.ref), job_id)
        times = {"started_at": (rq_job.started_at or now()).timestamp(), "ended_at": rq_job.ended_at.timestamp()}
        ending = Ending(state=STATES[status], attempts=1, progress=progress, versions=(), **times)
        self.client.set(keys.progress(job_id), progress.model_dump_json())
        script = f"{ANNOUNCE} {COUNT} count(KEYS[1]) announce(KEYS[1], ARGV[1], ARGV[2])"
        self.client.eval(script, 1, RqJob.key_for(job_id), job_id, ending.model_dump_json())

    def _publish(self, job_id: str, progress: Progress) -> None:
        self.client.set(keys.progress(job_id), progress.model_dump_json())
        self._announce(job_id, "{}")

    def _announce(self, job_id: str, message: str) -> None:
        """Publishes a message about a job to all who follow it, and to the front end whose request waits for it."""
        self.publish(status_channel(job_id), message)
        name: Any = self.client.hget(RqJob.key_for(job_id), LISTENER)
        if name is not None:
            self.publish(listener_channel(name.decode()), job_id + message)

    def _fetch(self, job_id: str) -> RqJob:
        return RqJob.fetch(job_id, connection=self.client, serializer=JSONSerializer)
