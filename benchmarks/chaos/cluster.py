"""The processes under attack: a Redis, front ends and workers, each started again whenever it has ended."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks.stack import ENVIRONMENT, ROOT, free_port
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer
from difuso.supervisor.standalone import API_NICE

from .receiver import SECRET

APIS, WORKERS = 2, 3  # front ends and workers
START_SECONDS = 180.0
POLL_SECONDS = 0.1
PAUSE_SECONDS = 0.5  # until an ended process is started again, as service managers do


@dataclass(frozen=True)
class End:
    """A process that ended.

    Attributes:
        log: its log; the file's name says which process it was.
        at: seconds since the epoch.
        asked: the signal that we had sent it, if any.
        status: its exit status, negative for a signal.
    """

    log: Path
    at: float
    asked: signal.Signals | None
    status: int


@dataclass(eq=False)
class Member:
    """A place for a process that must always run. Each process writes a log file of its own.

    Attributes:
        name: the name of the place.
        models: its models folder, which no other place shares.
        ends: the ends of the earlier processes at this place.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    models: Path
    logs: Path
    ends: list[End] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    log: Path = Path()
    _asked: signal.Signals | None = None
    _noted: bool = False
    _starts_at: float = 0.0

    def take(self, model: Path) -> None:
        """Puts a model into the models folder by renaming, in the place of its previous version."""
        fresh, place, gone = (self.models / f"{before}{model.name}" for before in (".fresh-", "", ".gone-"))
        shutil.copytree(model, fresh)
        if place.exists():
            place.rename(gone)
        fresh.rename(place)
        shutil.rmtree(gone, ignore_errors=True)

    def start(self, children: ChildProcesses) -> None:
        """Starts the next process."""
        self.log = self.logs / f"{self.name}-{len(self.ends)}.log"
        self.log.touch()  # a process that ends at once writes none
        # Child processes write to the terminal; the shell turns that into a file and becomes the process.
        redirected = ["sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1', "sh", str(self.log), *self.command]
        self.process = children.spawn(redirected, env=self.environment)
        self._asked, self._noted = None, False

    def send(self, number: signal.Signals) -> subprocess.Popen[bytes]:
        """Sends a signal to the current process, and returns the signal."""
        assert self.process is not None
        if number is signal.SIGKILL or (number is signal.SIGTERM and self._asked is None):
            self._asked = number
        self.process.send_signal(number)
        return self.process

    def revive(self, children: ChildProcesses) -> None:
        """Notes an end, and starts the next process after a pause; call it often."""
        assert self.process is not None
        status = self.process.poll()
        if status is None:
            return
        if not self._noted:
            self._noted = True
            self.ends.append(End(self.log, time.time(), self._asked, status))
            self._starts_at = time.monotonic() + PAUSE_SECONDS
        if time.monotonic() >= self._starts_at:
            self.start(children)

    @property
    def pid(self) -> int | None:
        """Returns the current process; None between two."""
        return None if self.process is None or self.process.poll() is not None else self.process.pid

    @property
    def all_logs(self) -> list[Path]:
        """Returns the logs of the current process and of all before it."""
        return list(dict.fromkeys([*(end.log for end in self.ends), self.log]))


class Cluster:
    """All processes of a run.

    Args:
        children: the child processes that they belong to.
        server: the Redis, started.
        settings: the environment of front ends and workers.
        models: the versions of the model, of which all processes have the first.
        logs: the folder for their log files.
        steps: the folder in which workers count their image-steps; its counts outlive kill -9.
    """

    def __init__(
        self,
        children: ChildProcesses,
        server: RedisServer,
        settings: Mapping[str, str],
        models: Sequence[Path],
        logs: Path,
        steps: Path,
    ) -> None:
        self._children, self._server, self._redis = children, server, server.start()
        self.logs, self.steps = logs, steps
        self.client = redis.Redis.from_url(server.url, socket_timeout=60)
        python = [sys.executable, "-P", "-m"]
        api = ["nice", "-n", str(API_NICE), *python, "difuso", "api"]
        ports = [free_port() for _ in range(APIS)]
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.models = models

        def member(name: str, command: Sequence[str], **more: str) -> Member:
            folder = children.folder / f"models-{name}"
            folder.mkdir()
            made = Member(name, command, {**settings, **more, "DIFUSO_MODELS_DIR": str(folder)}, folder, logs)
            made.take(models[0])
            return made

        self.apis = [member(f"api-{number}", api, DIFUSO_PORT=str(port)) for number, port in enumerate(ports)]
        counting = {"PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(steps)}
        self.workers = [
            member(f"worker-{number}", [*python, "benchmarks.chaos.poison"], **counting) for number in range(WORKERS)
        ]

    def start(self) -> None:
        """Starts all processes, and returns when every worker serves and every front end answers."""
        for member in (*self.workers, *self.apis):
            member.start(self._children)
        self.wait_until_served()

    def give_all(self, model: Path) -> str:
        """Gives all processes a version of the model; returns it once every front end asks for it and workers hold it.

        The workers may hold the previous one, too.
        """
        before = {_current(url, len(self.workers)) for url in self.urls}
        for member in (*self.workers, *self.apis):
            member.take(model)
        deadline = time.monotonic() + START_SECONDS
        while True:
            (version, *others) = {_current(url, len(self.workers)) for url in self.urls}
            if version is not None and version not in before and not others:
                return version
            if time.monotonic() > deadline:
                raise SystemExit(f"not all processes have the other version after {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def wait_until_served(self) -> None:
        """Returns when all workers have reported and all front ends are ready."""
        deadline = time.monotonic() + START_SECONDS
        while not all(_is_ready(url, len(self.workers)) for url in self.urls):
            if time.monotonic() > deadline:
                raise SystemExit(f"the processes are not ready after {START_SECONDS:.0f} s: see {self.logs}")
            self.revive()
            time.sleep(POLL_SECONDS)

    async def keep(self) -> None:
        """Restarts ended processes, for ever."""
        while True:
            self.revive()
            await asyncio.sleep(POLL_SECONDS)

    def revive(self) -> None:
        """Notes which processes have ended, and starts them again after a pause; call it often."""
        for member in (*self.workers, *self.apis):
            member.revive(self._children)

    def steps_by_worker(self) -> dict[int, float]:
        """Returns the image-steps that each worker has made so far, by its process; of dead ones too."""
        files: dict[int, list[str]] = {}
        for path in self.steps.glob("*.db"):
            files.setdefault(int(path.stem.rpartition("_")[2]), []).append(str(path))
        return {pid: _image_steps(paths) for pid, paths in files.items()}

    def signal_redis(self, number: signal.Signals) -> None:
        """Sends Redis a signal."""
        self._redis.send_signal(number)
        if number is signal.SIGKILL:
            self._redis.wait()

    def restart_redis(self) -> None:
        """Starts the killed Redis on its old data."""
        self._redis = self._server.start()

    def stop(self, members: Sequence[Member]) -> None:
        """Asks processes to end, and notes when they have ended; a later `revive` starts them again."""
        for member in members:
            member.send(signal.SIGTERM)
        for member in members:
            assert member.process is not None
            member.process.wait(START_SECONDS)
        self.revive()


@contextmanager
def open_cluster(children: ChildProcesses, models: Sequence[Path], store: Path, *, ttl: int) -> Iterator[Cluster]:
    """Yields all processes, running; see `Cluster`.

    Args:
        ttl: seconds that results are kept.
    """
    logs, steps = children.folder / "logs", children.folder / "steps"
    logs.mkdir()
    steps.mkdir()
    secret = children.folder / "secret"
    secret.write_text(SECRET)
    with closing(RedisServer(children, children.folder / "redis")) as server:
        settings = {
            **ENVIRONMENT,
            "REDIS_URL": server.url,
            "DIFUSO_STATE_DIR": str(children.folder / "state"),
            "DIFUSO_STORE_URL": str(store),
            "DIFUSO_RESULT_TTL": str(ttl),
            "DIFUSO_DEVICE": "cpu",
            "DIFUSO_DRAIN_SECONDS": "5",
            "DIFUSO_LOG_FORMAT": "json",
            "DIFUSO_WEBHOOK_HOSTS": "http://127.0.0.1",
            "DIFUSO_WEBHOOK_SECRET_FILE": str(secret),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        cluster = Cluster(children, server, settings, models, logs, steps)
        with closing(cluster.client):
            cluster.start()
            yield cluster


def _image_steps(files: Sequence[str]) -> float:
    samples = [sample for metric in MultiProcessCollector.merge(files) for sample in metric.samples]  # type: ignore[no-untyped-call]
    return float(sum(sample.value for sample in samples if sample.name == "difuso_image_steps_total"))


def _current(url: str, workers: int) -> str | None:
    """Returns the version that a front end asks for now; None unless so many workers hold it."""
    try:
        (model,) = httpx.get(f"{url}/models", timeout=5).json()["models"]
    except (httpx.HTTPError, ValueError, LookupError):
        return None
    return str(model["version"]) if model["workers"] == workers else None


def _is_ready(url: str, workers: int) -> bool:
    try:
        ready = httpx.get(f"{url}/readyz?verbose", timeout=2)
    except httpx.HTTPError:
        return False
    return ready.is_success and ready.json().get("workers") == workers
