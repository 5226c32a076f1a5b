"""The worker process: load the models, warm them up, serve the queues."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import redis
from prometheus_client import CollectorRegistry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from jobs.redis_url import with_password
from jobs.store import ResultStore
from jobs.tracing import start_tracing

from .engine import EngineStalled
from .metrics import WorkerMetrics
from .models import ModelFollower, load_models
from .rq_base import GaveUp
from .rq_worker import EngineWorker
from .settings import WorkerSettings

if TYPE_CHECKING:
    from .spans import JobSpans

log = logging.getLogger(__name__)

EXIT_SECONDS = 5.0


def run(settings: WorkerSettings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status: 0 after a drain, 1 if the process must be replaced."""
    models = load_models(settings)
    if not models.runners:
        log.error("no model could be loaded from %s", settings.models_dir)
        return 1
    metrics = WorkerMetrics(CollectorRegistry())
    for name, runner in models.runners.items():
        metrics.watch(name, runner)
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port)
    client = connect(with_password(settings.redis_url, settings.redis_password_file))
    wait_for(client)
    worker = EngineWorker(
        client,
        models,
        ModelFollower(settings),
        ResultStore(settings.store_url),
        metrics,
        drain_seconds=settings.drain_seconds,
        result_ttl=settings.result_ttl,
        spans=_spans(),
    )
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, worker.request_stop)
    log.info("serving %s", ", ".join(sorted(models.runners)))
    try:
        worker.run()
    except (EngineStalled, GaveUp) as error:
        log.error("worker exits: %s", error)
    except Exception:
        log.exception("worker exits")
    else:
        log.info("drained after %d image-steps", metrics.image_steps)
        _limit_exit()
        return 0
    logging.shutdown()
    os._exit(1)  # a hanging engine thread cannot be joined


def _limit_exit() -> None:
    """Threads that talk to a store which hangs, or load a model, must not hold up a process that has nothing to do."""
    timer = threading.Timer(EXIT_SECONDS, os._exit, args=[0])
    timer.daemon = True
    timer.start()


def _spans() -> JobSpans | None:
    if not start_tracing("worker"):
        return None
    from .spans import JobSpans

    return JobSpans()


def wait_for(client: redis.Redis) -> None:
    """Returns when Redis answers; in which order processes start does not matter."""
    while True:
        try:
            client.ping()
        except redis.RedisError as error:
            log.warning("waiting for Redis (%s)", type(error).__name__)
            time.sleep(1)
        else:
            return


def connect(url: str) -> redis.Redis:
    """One client for the whole process: a blocking pop lasts a second, a dead Redis is noticed after ten."""
    client: redis.Redis = redis.Redis.from_url(
        url, socket_timeout=10, socket_connect_timeout=5, retry=Retry(ExponentialBackoff(cap=1, base=0.1), 2)
    )
    return client
