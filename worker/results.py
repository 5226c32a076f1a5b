"""Makes a stored result of finished trajectories."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass

from torch import Tensor

from jobs.contract import ImageFile, Job, Manifest, Timesteps
from jobs.image_recipe import PNG_KEY, recipe
from jobs.store import ResultStore
from model.images import to_png

from .active import ActiveJob
from .kinds import WORKER_KINDS
from .runner import Runner

SMALL_BYTES = 1 << 20  # images of at most this size in all lie in the manifest: one file to write, sync and read


@dataclass(frozen=True)
class Spent:
    """Seconds spent on the images of a job; `ended_at` is when they were stored, in seconds since the epoch."""

    encode_seconds: float
    store_seconds: float
    ended_at: float

    @property
    def seconds(self) -> float:
        return self.encode_seconds + self.store_seconds


def png_text(runner: Runner, job: Job, timesteps: Timesteps, index: int) -> dict[str, str]:
    """Returns the recipe of one image, for its iTXt chunk."""
    facts = recipe(
        job,
        index,
        model=runner.checkpoint.name,
        model_sha256=runner.checkpoint.sha256,
        compiled=runner.compiled,
        timesteps=timesteps,
    )
    return {PNG_KEY: json.dumps(facts, separators=(",", ":"))}


def encode_images(active: ActiveJob) -> list[bytes]:
    """Returns all images of a finished job as PNGs."""
    job = active.job
    images = WORKER_KINDS[job.kind].finish(job, [trajectory.x for trajectory in active.answers])
    timesteps = active.answers[0].plan.timesteps
    return [to_png(image, png_text(active.runner, job, timesteps, index)) for index, image in enumerate(images)]


def store_result(store: ResultStore, active: ActiveJob) -> Spent:
    """Encodes and stores a finished job; returns how long that took.

    If another attempt was first, its images stay, and the sweep deletes those of this attempt.
    """
    started, job = time.perf_counter(), active.job
    files, pngs = [], encode_images(active)
    encoded = time.perf_counter()
    are_small = sum(map(len, pngs)) <= SMALL_BYTES
    for index, png in enumerate(pngs):
        path = None if are_small else store.write_image(job.id, active.attempt, index, png)
        seed, sha256 = job.task.seed(job.params, index), hashlib.sha256(png).hexdigest()
        files.append(ImageFile(path=path, seed=seed, sha256=sha256, png=png if are_small else None))
    manifest = Manifest(
        job=job,
        model_sha256=active.runner.checkpoint.sha256,
        compiled=active.runner.compiled,
        timesteps=active.answers[0].plan.timesteps,
        images=tuple(files),
        finished_at=time.time(),
    )
    store.commit(manifest)
    return Spent(encoded - started, time.perf_counter() - encoded, time.time())


def preview_message(active: ActiveJob, index: int, x0: Tensor) -> str:
    """Returns a preview as JSON: the unfinished image x0, shape (C, H, W), as a PNG in base64."""
    png = base64.b64encode(to_png(x0.clamp(-1, 1))).decode()
    return json.dumps({"index": index, "image_steps": active.image_steps, "png": png})
