"""The API process: builds the application and its parts."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version

import redis
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import ThreadingWSGIServer
from redis import RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from difuso.jobs.catalog import LOOK_SECONDS, CatalogFollower
from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.mirror import Mirror
from difuso.jobs.redis.addresses import connect
from difuso.jobs.redis.events import Listener
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.usage import UsageRecords
from difuso.jobs.redis.webhooks import Webhooks
from difuso.jobs.redis.workers import held_refs
from difuso.jobs.settings import with_password
from difuso.jobs.store.result_store import ResultStore
from difuso.jobs.telemetry import start_tracing
from difuso.jobs.trainings.datasets import Datasets
from difuso.jobs.trainings.records import Trainings
from difuso.jobs.trainings.states import TrainingFiles
from difuso.model.plans.plugins import plug_in

from .http.access import Guard, LinkGuard
from .http.api_keys import KEYS_LOOK_SECONDS, KeyRing
from .http.metrics import Metrics, StackCollector, UsageCollector
from .http.middleware import UNADDRESSED, Compression, Failures, RequestMiddleware, share
from .http.problems import RESPONSES, install
from .http.server import run
from .openapi import TAGS, TRAINING, describe
from .requests.dataset_uploads import DatasetUploads
from .requests.deps import Process, State
from .requests.uploads import Uploads
from .requests.watching import Watcher
from .requests.webhooks import WebhookCaller
from .routers import datasets as dataset_routes
from .routers import fleet, health, jobs, kinds, model_files, models, page, usage
from .routers import trainings as training_routes
from .settings import ApiSettings
from .store_access import Renderers, StoreProbe

log = logging.getLogger(__name__)

REDIS_TIMEOUT = 2.0  # seconds
HEAR_SECONDS = 1.0
SWEEP_SECONDS = 600.0
LISTERS = 4  # threads for lists of jobs, each of which may take tens of megabytes
# While Redis hangs, each request holds a thread for REDIS_TIMEOUT. There are enough that none waits for another.
THREADS = 100
MAX_CONNECTIONS = 128  # more than the threads use


def serve(settings: ApiSettings, fd: int | None = None) -> None:
    """Serves, on the socket `fd` if several share one, until SIGTERM or SIGINT.

    Then waiting requests are answered 202, and event streams end.
    """
    start_tracing("api")
    app = create_app(settings)
    if settings.api_metrics_port is not None:
        ThreadingWSGIServer.allow_reuse_port = fd is not None  # each front end answers there for all
        start_http_server(settings.api_metrics_port, addr=settings.host, registry=app.state.metrics.registry)
    run(app, host=settings.host, port=settings.port, fd=fd, draining=app.state.draining)


def create_app(settings: ApiSettings) -> FastAPI:
    """Returns the application, which connects to nothing before its lifespan begins.

    Raises ForeignError if a plug-in cannot be imported.
    """
    plug_in(settings.plugins)
    app = FastAPI(
        title="difuso",
        version=version("difuso"),
        summary="Images from pixel-space diffusion models",
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "This server"}],
        openapi_tags=[*TAGS, TRAINING] if settings.training else TAGS,
        lifespan=_lifespan,
        responses=RESPONSES,
        docs_url=None,  # FastAPI's pages load scripts from other sites; ours is in app.routers.page
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # clients name theirs after it; FastAPI's repeat the path
        redirect_slashes=False,  # a redirect would lead to any host that the request names
        telemetry={
            "metrics": False,
            "logs": False,
            "operation_spans": False,  # there would be one for each dependency
            "auto_configure": False,
            "exclude": lambda scope: scope.get("path") in UNADDRESSED,
        },
    )
    app.state.settings = settings
    app.state.metrics = Metrics(CollectorRegistry())
    app.state.draining = asyncio.Event()
    origins = settings.cors_origins or frozenset()
    app.add_middleware(Failures)
    if origins:
        share(app, origins)
    app.add_middleware(Compression)
    app.add_middleware(RequestMiddleware, metrics=app.state.metrics, hosts=settings.hosts, origins=origins)
    install(app)
    app.state.keys = None
    guarded, linked = [], []
    if settings.api_keys_file is not None:
        app.state.keys = keys = KeyRing(settings.api_keys_file)
        guarded, linked = [Depends(Guard(keys))], [Depends(LinkGuard(keys))]
    app.include_router(jobs.router, dependencies=guarded)  # the most frequent routes are matched first
    app.include_router(jobs.linked_router, dependencies=linked)
    for module in (kinds, models, model_files, fleet, usage):
        app.include_router(module.router, dependencies=guarded)
    if settings.training:
        for module in (dataset_routes, training_routes):
            app.include_router(module.router, dependencies=guarded)
    if settings.api_metrics_port is None:
        app.include_router(health.metrics_router, dependencies=guarded)
    for module in (page, health):
        app.include_router(module.router)
    app.mount("/static", page.files)
    describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[State]:
    settings: ApiSettings = app.state.settings
    metrics: Metrics = app.state.metrics
    keys: KeyRing | None = app.state.keys
    mirror = None if settings.models_address is None else Mirror(settings)
    if mirror is not None:
        await to_thread.run_sync(mirror.follow)
    follower = await to_thread.run_sync(partial(CatalogFollower, *settings.models_dirs, default=settings.default_model))
    metrics.know_models(follower.catalog)
    redis_url = with_password(settings.redis_url, settings.redis_password_file)
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    async with AsyncExitStack() as stack:
        if mirror is not None:
            stack.callback(mirror.close)
        client = _redis(redis_url)
        stack.callback(client.close)
        listener = Listener(redis_url)
        await listener.start()
        stack.push_async_callback(listener.stop)
        queue = JobQueue(client, result_ttl=settings.result_ttl, pools=settings.pools)
        webhooks = WebhookCaller(settings, Webhooks(client), queue, keys, metrics)
        following = [
            _every(LOOK_SECONDS, partial(_look, follower, metrics)),
            _every(HEAR_SECONDS, partial(_hear, follower, queue, metrics)),
            *([_every(KEYS_LOOK_SECONDS, keys.look)] if keys else []),
            *([webhooks.run()] if settings.webhook_hosts else []),
        ]
        for task in following:
            stack.callback(asyncio.create_task(task).cancel)
        store, datasets = ResultStore(settings.store_url, metrics.observe_store), Datasets(settings.store_url)
        trainings, files = Trainings(client), TrainingFiles(settings.store_url)
        if settings.training:
            sweeping = _every(SWEEP_SECONDS, partial(_sweep, datasets, trainings, files, settings.dataset_ttl))
            stack.callback(asyncio.create_task(sweeping).cancel)
        probe, used = StoreProbe(store), UsageRecords(client)
        counted = trainings if settings.training else None
        metrics.registry.register(
            StackCollector(queue, webhooks.records, store, probe, follower, mirror, keys, counted, metrics)
        )
        registry = metrics.registry if settings.api_metrics_port else metrics.of_keys
        registry.register(UsageCollector(used, keys, metrics))
        process = Process(
            settings=settings,
            metrics=metrics,
            follower=follower,
            mirror=mirror,
            queue=queue,
            usage=used,
            store=store,
            probe=probe,
            listers=CapacityLimiter(LISTERS),
            uploads=Uploads(settings.max_upload),
            dataset_uploads=DatasetUploads(settings.max_dataset, settings.dataset_ttl),
            datasets=datasets,
            trainings=trainings,
            training_files=files,
            renderers=Renderers(store.readers),
            listener=listener,
            webhooks=webhooks,
            watcher=Watcher(queue, listener, app.state.draining, metrics, keys),
            draining=app.state.draining,
        )
        yield State(process=process, caller=None, is_head=False)


async def _every(seconds: float, look: Callable[[], object]) -> None:
    """Calls a function in a thread, again and again, for ever."""
    while True:
        await asyncio.sleep(seconds)
        await to_thread.run_sync(look)


def _look(follower: CatalogFollower, metrics: Metrics) -> None:
    try:
        if follower.look():
            metrics.know_models(follower.catalog)
    except OSError as error:
        log.warning("the models folder cannot be read: %s", error.strerror)


def _sweep(datasets: Datasets, trainings: Trainings, files: TrainingFiles, ttl: int) -> None:
    """Deletes what is too old of datasets, and of trainings that have ended, whose models stay."""
    with suppress(StoreUnavailable, RedisError):  # then later
        trainings.expire(ttl)
        files.sweep(time.time() - ttl, lambda: {each.id for each in trainings.all() if not each.expired})
        datasets.sweep({(each.owner, each.dataset) for each in trainings.all() if not each.is_over})


def _hear(follower: CatalogFollower, queue: JobQueue, metrics: Metrics) -> None:
    """Hears which versions of models the live workers hold."""
    with suppress(RedisError):  # meanwhile they hold what they held
        if follower.hear(held_refs(queue.workers())):
            metrics.know_models(follower.catalog)


def _redis(url: str) -> redis.Redis:
    return connect(
        url,
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        max_connections=MAX_CONNECTIONS,
    )
