"""Everything on one machine: Redis, workers and the API as child processes that are watched, restarted and stopped.

Torch lives in the workers alone, so this process and the API stay small.
"""

import logging
import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib.util import find_spec
from itertools import chain

import redis

from difuso.app.settings import ApiSettings
from difuso.jobs.redis.addresses import connect
from difuso.jobs.redis.workers import ModelReport, WorkerReport, live_reports
from difuso.jobs.settings import with_password
from difuso.models_folder import models_folder, usable_models
from difuso.worker.settings import EXIT_SECONDS, GIVE_UP_SECONDS, HANG_SECONDS, WorkerSettings

from .child_processes import DIFUSO, ChildProcesses
from .front_ends import front_ends
from .machine import this_machine
from .redis_server import RedisServer
from .service import TICK_SECONDS, Service, stop, stop_signals
from .shares import Share, share_out, threads_of
from .startup_checks import bind, check_device, check_port, check_redis, check_store

log = logging.getLogger(__name__)

PORT = "--port or DIFUSO_PORT"
# A network call waits for the slowest of its threads, so a request that takes a core from one of them delays all. With
# 20 polling clients on two cores a busy worker lost 6 % to an API of equal priority, and 4 % to one that yields.
API_NICE = 10
REDIS_DRAIN_SECONDS = 10.0
TRAINER_DRAIN_SECONDS = 90.0  # of a trainer, whose training finishes its step and saves
DRAIN_MARGIN_SECONDS = GIVE_UP_SECONDS + HANG_SECONDS + EXIT_SECONDS  # so that only a hung worker is killed

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would look for our port at its own


def serve(api: ApiSettings, worker: WorkerSettings, workers: int | None) -> None:
    """Runs difuso until Ctrl-C or SIGTERM; a second Ctrl-C does not wait for running jobs.

    Args:
        api, worker: the settings that these processes will read from the same environment.
        workers: the number of workers; None for the best number on this machine.

    Raises UserError if a port is taken, there is no model, no store, no such device or no Redis, there are too few
    cores, or a process cannot run.
    """
    url = os.environ.get("REDIS_URL")
    check_port(api.host, api.port, setting=PORT)
    check_port(api.host, api.api_metrics_port, setting="DIFUSO_API_METRICS_PORT")
    models_folder(api)
    usable_models(*api.models_dirs)
    check_store(worker.store_url)
    check_device(worker.device)
    shares = share_out(this_machine(worker.device, os.environ), workers, threads_of(os.environ))
    if (first := worker.metrics_port) is not None:
        for port in range(first, first + len(shares)):
            check_port("0.0.0.0", port, setting="DIFUSO_METRICS_PORT")
    if url is not None:
        url = with_password(url, worker.redis_password_file)
        check_redis(url)
    log.info("the models are in %s", worker.models_place)
    log.info("starting%s; Ctrl-C stops it all", _described(shares))
    with stop_signals() as signals, ChildProcesses() as children, ExitStack() as stack:
        groups: list[list[Service]] = []
        if url is None:
            server = stack.enter_context(closing(RedisServer(children, worker.state_dir / "redis")))
            groups.append([Service("redis", server.start, drain_seconds=REDIS_DRAIN_SECONDS)])
            url = server.url
        environment = {**os.environ, "REDIS_URL": url}
        environment.pop("DIFUSO_REDIS_PASSWORD_FILE", None)  # the URL is complete
        drawing = [*_workers(children, shares, environment, worker)]
        shared, port = None, api.port
        if api.front_ends > 1:
            shared = stack.enter_context(bind(api.host, port, setting=PORT))
            port = shared.getsockname()[1]
        training = []
        can_train = find_spec("tensorboard") is not None
        if not can_train:
            log.info("without a trainer, which needs the extra train: pip install 'difuso[train]'")
        if api.training or ("DIFUSO_TRAINING" not in environment and can_train):
            environment["DIFUSO_TRAINING"] = "true"
            start = partial(children.spawn, [*DIFUSO, "trainer"], env=environment)
            training.append(Service("trainer", start, drain_seconds=TRAINER_DRAIN_SECONDS, needed=False))
        front = front_ends(children, shared, api.front_ends, environment, nice=API_NICE)
        groups.append([*drawing, *training, *front])
        later = [*(worker for worker, share in zip(drawing, shares, strict=True) if share.core), *training]
        services = list(chain.from_iterable(groups))
        try:
            for service in services:
                if service not in later:
                    service.start()
            client = stack.enter_context(connect(url, socket_timeout=1))
            began = time.time()
            _watch(services, later, signals, lambda: announce(api.host, port, client, since=began))
        finally:
            if shared is not None:
                shared.close()
            # The API answers those who wait while the workers finish their jobs or hand them back; then Redis closes.
            for group in reversed(groups):
                stop(group, hurried=lambda: len(signals) > 1)
    log.info("difuso has stopped")


def _described(shares: Sequence[Share]) -> str:
    if len(shares) == 1:
        return ""
    if shares[0].core is not None:
        return f" {len(shares)} workers with one core each, or all for one that has work alone"
    return f" {len(shares)} workers with {shares[0].environment['OMP_NUM_THREADS']} threads each"


def _workers(
    children: ChildProcesses, shares: Sequence[Share], environment: Mapping[str, str], settings: WorkerSettings
) -> Iterator[Service]:
    """Yields the service of each worker, with its share of the machine and its port of metrics."""
    for index, share in enumerate(shares):
        own = {**environment, **share.environment_in(children.folder)}
        if settings.metrics_port is not None:
            own["DIFUSO_METRICS_PORT"] = str(settings.metrics_port + index)
        yield Service(
            "worker" if len(shares) == 1 else f"worker {index + 1}",
            partial(children.spawn, [*DIFUSO, "worker"], env=own, processors=share.processors),
            drain_seconds=settings.drain_seconds + DRAIN_MARGIN_SECONDS,
            needed=not share.core,
        )


def _watch(
    services: Sequence[Service], later: Sequence[Service], signals: Sequence[int], announced: Callable[[], bool]
) -> None:
    """Keeps the services alive until a signal has come.

    Those for later start when difuso is ready, so that the first picture comes soon.
    """
    ready = False
    while not signals:
        for service in services:
            service.revive()
        if not ready and announced():
            ready = True
            for service in later:
                service.start()
        time.sleep(TICK_SECONDS)


def announce(host: str, port: int, client: redis.Redis, *, since: float) -> bool:
    """Logs the address of the API if it answers and a worker has reported a warm model; returns whether it did.

    Reports from before `since` do not count: the last one of a worker killed earlier looks alive, too.
    """
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    try:
        with _direct.open(f"{address}/readyz", timeout=1):
            models = merged([report for report in live_reports(client) if report.at >= since])
    except (OSError, redis.RedisError):
        return False
    ready = sorted(name for name, model in models.items() if model.ready)
    if not ready:
        return False
    for name, model in models.items():
        if model.reason is not None:
            log.warning("model %s is not served: %s", name, model.reason)
    kind = "model" if len(ready) == 1 else "models"
    log.info("difuso is ready: %s  (%s %s, Ctrl-C stops)", address, kind, ", ".join(ready))
    return True


def merged(reports: Sequence[WorkerReport]) -> dict[str, ModelReport]:
    """Returns a report on each model by name: of a worker that serves it, if there is one."""
    found = [each for report in reports for each in report.models]
    return {each.name: each for each in sorted(found, key=lambda each: each.ready)}  # of several, a dict keeps the last
