"""The worker's part of every kind of job, by the names of `jobs.kinds`."""

from importlib import import_module

from difuso.jobs.kinds import KINDS

from .base import WorkerKind

WORKER_KINDS: dict[str, WorkerKind] = {name: import_module(f".{name}", __name__).KIND for name in KINDS}
