"""The worker process: it loads the models, warms them up and serves the queues."""

import faulthandler
import logging
import os
import signal
import threading
import time

import redis
from prometheus_client import CollectorRegistry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from difuso.jobs.mirror import Mirror
from difuso.jobs.redis import addresses
from difuso.jobs.settings import with_password
from difuso.jobs.store.result_store import ResultStore
from difuso.jobs.telemetry import start_tracing
from difuso.model.plans.plugins import plug_in

from .device.cores import use_one_core
from .engine.engine import EngineStalled
from .engine.models import ModelFollower
from .metrics import WorkerMetrics
from .queue.rq_base import GaveUp
from .queue.rq_worker import EngineWorker
from .settings import EXIT_SECONDS, HANG_SECONDS, WorkerSettings

log = logging.getLogger(__name__)


def run(settings: WorkerSettings) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit status: 0 after a drain, 1 if the process must be replaced."""
    use_one_core()
    plug_in(settings.plugins)
    mirror = None if settings.models_address is None else Mirror(settings, settings.serves)
    if mirror is not None:
        log.info("fetching the models of %s", settings.models_address)
        mirror.follow()
    follower = ModelFollower(settings)
    follower.load_first()
    runners = follower.models.runners.values()
    if not runners:
        log.error("no model could be loaded from %s", settings.models_place)
        return 1
    metrics = WorkerMetrics(CollectorRegistry())
    if mirror is not None:
        metrics.watch_address(mirror)
    for runner in runners:
        metrics.watch(runner.checkpoint.name, runner)
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port)
    client = connect(with_password(settings.redis_url, settings.redis_password_file))
    wait_for(client)
    spans = None
    if start_tracing("worker"):
        from .spans import JobSpans

        spans = JobSpans()
    worker = EngineWorker(
        client,
        follower,
        ResultStore(settings.store_url, metrics.observe_store),
        metrics,
        settings,
        spans,
    )

    def stop(signum: int, frame: object) -> None:
        worker.request_stop(signum, frame)
        # A call to a Redis that hangs takes half a minute. This ends the process wherever it stands, with status 1.
        faulthandler.dump_traceback_later(worker.give_up_at + HANG_SECONDS - time.monotonic(), exit=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info("serving %s first", ", ".join(runner.checkpoint.name for runner in runners))
    try:
        worker.run()
    except (EngineStalled, GaveUp) as error:
        log.error("worker exits: %s", error)
    except Exception:
        log.exception("worker exits")
    else:
        log.info("drained after %d image-steps", metrics.image_steps)
        faulthandler.cancel_dump_traceback_later()
        # The process ends even if threads still load a model or wait for a store that hangs.
        timer = threading.Timer(EXIT_SECONDS, os._exit, args=[0])
        timer.daemon = True
        timer.start()
        return 0
    logging.shutdown()
    os._exit(1)  # an engine thread that hangs cannot be joined


def wait_for(client: redis.Redis) -> None:
    """Returns when Redis answers, so that processes may start in any order."""
    while True:
        try:
            client.ping()
        except redis.RedisError as error:
            log.warning("waiting for Redis (%s)", type(error).__name__)
            time.sleep(1)
        else:
            return


def connect(url: str) -> redis.Redis:
    """Makes the connection to Redis for the whole process. Its timeout is 10 s, well above a blocking pop of 1 s."""
    return addresses.connect(
        url, socket_timeout=10, socket_connect_timeout=5, retry=Retry(ExponentialBackoff(cap=1, base=0.1), 2)
    )
