"""The compose stack as an operator runs it: its commands, its API, its Prometheus."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.stack import free_port
from difuso.client import Client
from difuso.torch_index import CPU_INDEX, answers
from tests.waiting import wait_until

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
OLDER = ("docker-compose.yml",)
NEWER = (*OLDER, "tests/compose/newer.yml")  # the next version of difuso
METRICS = 9100  # the port inside, of API and workers
STEPS_AT_THE_END = re.compile(r"drained after (\d+) image-steps")


def torch_index() -> str:
    """Returns the index of CPU builds, or another one that is set; PyPI where it cannot be reached."""
    return os.environ.get("TORCH_INDEX", CPU_INDEX if answers(CPU_INDEX) else "")


def engine_trouble() -> str | None:
    """Returns why no containers can run here; None if they can."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "no docker command"
        if done.returncode:
            return f"{' '.join(command)}: {done.stderr.strip()}"
    return None


class Counting(httpx.HTTPTransport):
    """Counts the answers of a server by status; 0 if none came."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = Counter[int]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        status = 0
        try:
            response = super().handle_request(request)
            status = response.status_code
            assert status != 503 or "Retry-After" in response.headers
        finally:
            self.answers[status] += 1
        return response


class ComposeStack:
    """A compose project of its own, with two workers of one thread each.

    Args:
        folder: the folder for a copy of Prometheus' configuration with shorter intervals.
        files: the files of the project.
        more: further variables of the environment.
    """

    def __init__(self, folder: Path, files: tuple[str, ...] = OLDER, more: Mapping[str, str] | None = None) -> None:
        ports = {name: str(free_port()) for name in ("API_PORT", "PROMETHEUS_PORT")}
        self._environment = (
            os.environ
            | ports
            | {
                "COMPOSE_FILE": os.pathsep.join(files),
                "COMPOSE_PROJECT_NAME": f"difuso-test-{os.getpid()}",
                "PROMETHEUS_CONFIG": str(hurried(folder / "prometheus")),
                "WORKERS": "2",
                "TORCH_INDEX": torch_index(),
                "OMP_NUM_THREADS": "1",
                "DIFUSO_DRAIN_SECONDS": "2",  # shorter than the jobs, so that they are handed over on their way
            }
            | {**(more or {})}
        )
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each question
        address = f"http://127.0.0.1:{ports['API_PORT']}"
        self.address = address
        self.api = httpx.Client(base_url=address, timeout=60)
        self.counting = Counting()
        self.client = Client(address, timeout=300, transport=self.counting)  # it tries again while the API is away
        self._prometheus = httpx.Client(base_url=f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/api/v1", timeout=20)

    def compose(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """Runs a command of `docker compose`; returns its output."""
        return self._run("docker", "compose", *command, stdin=stdin, check=check)

    def docker(self, *command: str) -> str:
        return self._run("docker", *command)

    def _run(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def up(self) -> None:
        """Starts all containers that do not run, and waits until all are healthy."""
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", "120")
        except AssertionError:
            log.error("%s", self.compose("logs", "--tail", "50"))
            raise

    def choose(self, version: tuple[str, ...]) -> None:
        """Makes the next containers of another version of difuso: `OLDER` or `NEWER`."""
        self._environment["COMPOSE_FILE"] = os.pathsep.join(version)

    def roll(self, service: str) -> None:
        """Replaces the API, or the workers one by one, by those of the version chosen, as docs/operations.md does."""
        if service == "worker":
            for worker in self.workers():
                self.replace(worker)
        else:
            self.compose("up", "--detach", "--wait", "--no-deps", service)

    def workers(self) -> list[str]:
        """Returns the container ids of the workers."""
        return self.compose("ps", "--all", "--quiet", "worker").split()

    def container(self, service: str) -> str:
        """Returns the id of a service's only container."""
        return self.compose("ps", "--quiet", service)

    def metrics(self, container: str) -> str:
        """Returns the metrics that a process gives Prometheus."""
        code = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{METRICS}/metrics').read().decode())"
        return self.docker("exec", container, "python", "-c", code)

    def log_of_workers(self) -> str:
        """Returns the logs of all workers so far, stopped and restarted ones included."""
        return self.compose("logs", "--no-log-prefix", "worker").replace("\x1b[2K", "")  # Compose 2.26

    def replace(self, worker: str) -> str:
        """Replaces a worker by one of the version chosen, as docs/operations.md does; returns its log."""
        self.docker("stop", "--time", "60", worker)
        log = subprocess.run(
            ["docker", "logs", worker], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ).stdout
        self.docker("rm", worker)
        self.compose("up", "--detach", "--wait", "--no-deps", "--no-recreate", "worker")
        return log

    def submit(self, **parameters: object) -> str:
        return self.client.submit("generate", **parameters).id

    def states(self, ids: list[str]) -> list[str]:
        """Returns the states of jobs; raises NotFound if the API does not know one."""
        return [self.client.job(job_id).state for job_id in ids]

    def finish(self, ids: list[str], timeout: float = 120) -> None:
        """Waits until every job has ended; all must have succeeded."""
        open_states = {"queued", "running"}
        wait_until(lambda: not open_states & set(self.states(ids)), timeout, "every job has ended")
        assert set(self.states(ids)) == {"succeeded"}

    def query(self, expression: str) -> list[Any]:
        """Returns the current vector of an expression."""
        answer = self._prometheus.get("/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        result: list[Any] = answer["data"]["result"]
        return result

    def targets(self) -> list[tuple[str, str]]:
        """Returns job and health of every target of Prometheus."""
        active = self._prometheus.get("/targets").json()["data"]["activeTargets"]
        return sorted((target["labels"]["job"], target["health"]) for target in active)

    def firing(self) -> set[str]:
        alerts = self._prometheus.get("/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def close(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans")
        self.api.close()
        self.client.close()
        self._prometheus.close()


def hurried(folder: Path) -> Path:
    """Returns Prometheus' configuration as it ships, but it asks every second and alerts after five seconds."""
    shutil.copytree(ROOT / "docker" / "prometheus", folder)
    folder.chmod(0o755)  # a user of its own reads it
    for file in folder.rglob("*.yml"):
        text = re.sub(r"(^ *for: | offset )\d+m\b", r"\g<1>5s", file.read_text(), flags=re.MULTILINE)
        file.write_text(re.sub(r"((?:scrape|evaluation|refresh)_interval): 10s", r"\1: 1s", text))
    return folder


@contextmanager
def running(
    folder: Path, files: tuple[str, ...] = OLDER, more: Mapping[str, str] | None = None
) -> Iterator[ComposeStack]:
    """Builds the images and runs the stack; leaves nothing of it behind."""
    with closing(ComposeStack(folder, files, more)) as stack:
        stack.compose("config", "--quiet")
        stack.compose("build", "--quiet")
        stack.up()
        yield stack
