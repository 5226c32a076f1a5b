"""Everything on one machine: Redis, one worker and the API as child processes that are watched, restarted and stopped.

Torch lives in the worker alone, so this process and the API stay small.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from app.settings import ApiSettings
from jobs.redis_url import with_password
from worker.settings import WorkerSettings

from .child_processes import ChildProcesses
from .ready_announcement import ReadyAnnouncement
from .redis_server import RedisServer
from .service import Service
from .startup_checks import check_metrics_port, check_models, check_port, check_redis

log = logging.getLogger(__name__)

REDIS_DATA = Path("var/redis")
TICK_SECONDS = 0.1
API_DRAIN_SECONDS = 25.0  # uvicorn ends its last requests after 20
# A network call waits for the slowest of its threads, so a request that takes a core from one of them delays all. With
# 20 polling clients on two cores a busy worker lost 6 % to an API of equal priority, and 4 % to one that yields.
API_NICE = 10
REDIS_DRAIN_SECONDS = 10.0
DRAIN_MARGIN_SECONDS = 5.0  # a worker ends by itself at its own limit; only a hung one is killed


def serve(api: ApiSettings, worker: WorkerSettings) -> None:
    """Runs difuso until Ctrl-C or SIGTERM; a second Ctrl-C does not wait for running jobs.

    Args:
        api, worker: the settings that these processes will read from the same environment.

    Raises:
        UserError: if the port is taken, there is no model or no Redis, or a process cannot run.
    """
    url = os.environ.get("REDIS_URL")
    check_port(api.host, api.port, otherwise=f"try --port {api.port + 1}")
    check_metrics_port(api.host, api.api_metrics_port)
    check_models(worker.models_dir)
    if url is not None:
        url = with_password(url, worker.redis_password_file)
        check_redis(url)
    log.info("starting; Ctrl-C stops it all")
    with _stop_signals() as signals, ChildProcesses() as children, ExitStack() as stack:
        services: list[Service] = []
        if url is None:
            server = stack.enter_context(closing(RedisServer(children, REDIS_DATA)))
            services.append(Service("redis", server.start, drain_seconds=REDIS_DRAIN_SECONDS))
            url = server.url
        environment = {**os.environ, "REDIS_URL": url}
        environment.pop("DIFUSO_REDIS_PASSWORD_FILE", None)  # the URL is complete
        drains = {"worker": worker.drain_seconds + DRAIN_MARGIN_SECONDS, "api": API_DRAIN_SECONDS}
        services += [_command(children, name, environment, drain) for name, drain in drains.items()]
        try:
            for service in services:
                service.start()
            _watch(services, signals, ReadyAnnouncement(url, api.host, api.port))
        finally:
            # The API stops taking jobs, then the worker finishes its own, then Redis closes.
            for service in reversed(services):
                service.stop(hurried=lambda: len(signals) > 1)
    log.info("difuso has stopped")


def _command(children: ChildProcesses, name: str, environment: Mapping[str, str], drain_seconds: float) -> Service:
    """A service that runs one of difuso's own commands."""
    command = [sys.executable, "-P", "-m", "difuso", name]  # -P: never import from the working directory
    if name == "api":
        command = ["nice", "-n", str(API_NICE), *command]
    return Service(name, lambda: children.spawn(command, env=environment), drain_seconds=drain_seconds)


def _watch(services: Sequence[Service], signals: Sequence[int], announcement: ReadyAnnouncement) -> None:
    """Keeps the services alive until a signal has come."""
    while not signals:
        for service in services:
            service.revive()
        announcement.announce()
        time.sleep(TICK_SECONDS)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects the signals that ask to stop. Its handler only records them, so no start is interrupted half-way."""
    received: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
