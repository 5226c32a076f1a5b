"""The front ends of one machine: one process, or several that share a socket and add up their metrics."""

import os
import socket
import time
from collections.abc import Mapping
from functools import partial

from difuso.app.settings import ApiSettings

from .child_processes import DIFUSO, ChildProcesses
from .service import TICK_SECONDS, Service, stop, stop_signals
from .startup_checks import bind

DRAIN_SECONDS = 25.0  # uvicorn ends its last requests after 20


def front_ends(
    children: ChildProcesses, shared: socket.socket | None, count: int, environment: Mapping[str, str], *, nice: int = 0
) -> list[Service]:
    """Returns the services of the front ends: of one, or of several with the bound socket that they share.

    Close the socket before they stop, because connections that nobody accepts would wait for ever.
    """
    command = ["nice", "-n", str(nice), *DIFUSO, "api"]
    if shared is None:
        return [Service("api", partial(children.spawn, command, env=environment), drain_seconds=DRAIN_SECONDS)]
    counts = children.folder / "metrics"  # in files by process, so that no count dies with its process
    counts.mkdir()
    own = {"DIFUSO_PORT": str(shared.getsockname()[1]), "PROMETHEUS_MULTIPROC_DIR": str(counts)}
    command += ["--fd", str(shared.fileno())]
    start = partial(children.spawn, command, env={**environment, **own}, pass_fds=[shared.fileno()])
    return [Service(f"api {number}", start, drain_seconds=DRAIN_SECONDS) for number in range(1, count + 1)]


def serve(settings: ApiSettings) -> None:
    """Runs several front ends until Ctrl-C or SIGTERM; UserError if the port is taken, or one of them cannot run."""
    with (
        bind(settings.host, settings.port, setting="DIFUSO_PORT") as shared,
        stop_signals() as signals,
        ChildProcesses() as children,
    ):
        environment = {**os.environ, "DIFUSO_MODELS_DIR": str(settings.models_dir)}  # an option may have set it
        services = front_ends(children, shared, settings.front_ends, environment)
        try:
            for service in services:
                service.start()
            while not signals:
                for service in services:
                    service.revive()
                time.sleep(TICK_SECONDS)
        finally:
            shared.close()
            stop(services, hurried=lambda: len(signals) > 1)
