"""The worker process: load the models, warm them up, serve the queues."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Mapping

import redis
import torch
from prometheus_client import CollectorRegistry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from jobs.catalog import model_folders
from jobs.redis_url import with_password
from jobs.store import ResultStore
from model.checkpoint import load_checkpoint
from model.errors import ModelError

from .metrics import WorkerMetrics
from .rq_base import GaveUp
from .rq_worker import EngineStalled, EngineWorker
from .runner import Runner, pick_device
from .settings import WorkerSettings

log = logging.getLogger(__name__)


def run(settings: WorkerSettings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status: 0 after a drain, 1 if the process must be replaced."""
    runners, refused = load_models(settings)
    if not runners:
        log.error("no model could be loaded from %s", settings.models_dir)
        return 1
    metrics = WorkerMetrics(CollectorRegistry())
    for name, runner in runners.items():
        metrics.watch(name, runner)
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port)
    client = connect(with_password(settings.redis_url, settings.redis_password_file))
    wait_for(client)
    worker = EngineWorker(
        client,
        runners,
        refused,
        ResultStore(settings.store_url),
        metrics,
        drain_seconds=settings.drain_seconds,
        result_ttl=settings.result_ttl,
    )
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, worker.request_stop)
    log.info("serving %s", ", ".join(sorted(runners)))
    try:
        worker.run()
    except (EngineStalled, GaveUp) as error:
        log.error("worker exits: %s", error)
    except Exception:
        log.exception("worker exits")
    else:
        log.info("drained after %d image-steps", sum(runner.image_steps for runner in runners.values()))
        return 0
    logging.shutdown()
    os._exit(1)  # a hanging engine thread cannot be joined


def load_models(settings: WorkerSettings) -> tuple[dict[str, Runner], Mapping[str, str]]:
    """Warm runners by name, and the folders that were refused with the reason."""
    device = pick_device(settings.device)
    runners: dict[str, Runner] = {}
    refused: dict[str, str] = {}
    for folder in model_folders(settings.models_dir):
        try:
            runner = Runner(load_checkpoint(folder), device=device, slots=settings.slots, exact=settings.exact)
        except (ModelError, torch.OutOfMemoryError) as error:
            refused[folder.name] = str(error)
            log.error("model %s is refused: %s", folder.name, error)
        else:
            runners[folder.name] = runner
            log.info(
                "model %s is warm on %s: batches of %s, %.0f image-steps/s",
                folder.name,
                device,
                ",".join(map(str, runner.buckets)),
                runner.rate,
            )
    return runners, refused


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
