"""Makes a stored result of finished trajectories."""

import base64
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from difuso.jobs.contract import ImageFile, Job, Manifest, Timesteps
from difuso.jobs.image_recipe import recipe
from difuso.jobs.images.npz import Array, encode_npz, packed
from difuso.jobs.moments import film_calls
from difuso.jobs.store.result_store import ResultStore
from difuso.model.errors import NonFiniteSample
from difuso.model.images import to_png, to_uint8
from difuso.model.memory import download
from difuso.model.pictures import as_pictures, picture_of
from difuso.model.plans.plan import levels_after
from difuso.model.png import PNG_KEY
from difuso.model.shape import Shown

from ..kinds import WORKER_KINDS
from ..stepping.runner import Runner
from ..stepping.trajectory import in_film_size
from .active import ActiveJob

QUALITY, METHOD = 80, 2  # of WebP: a film of 64x64 pixels has 2 to 12 kB and takes 2 ms
SMALL_BYTES = 1 << 20  # images and films of at most this size in all lie in the manifest: one file to write and sync


@dataclass(frozen=True)
class Spent:
    """Seconds spent on the images of a job; `ended_at` is when they were stored, in seconds since the epoch."""

    encode_seconds: float
    store_seconds: float
    ended_at: float
    manifest: bytes | None  # the result as it was stored, if it is this attempt's
    stored_bytes: int = 0  # of the result; that of another attempt has as many
    versions: tuple[str, ...] = ()  # those of the models that drew the result in the store; see `Job.versions`

    @property
    def seconds(self) -> float:
        return self.encode_seconds + self.store_seconds


@dataclass(frozen=True, eq=False)
class Encoded:
    """The files of a finished job: its PNGs, its films and its trace, if it has any."""

    pngs: list[bytes]
    films: list[bytes]
    trace: bytes | None
    # started, ended: when they were made, on the performance counter
    started: float
    ended: float


def png_text(
    runner: Runner, job: Job, timesteps: Timesteps, index: int, upscaler: Runner | None = None
) -> dict[str, str]:
    """Returns the recipe of one image, for its iTXt chunk."""
    facts = recipe(
        job,
        index,
        model=runner.checkpoint.name,
        version=runner.checkpoint.version,
        timesteps=timesteps,
        precision=runner.precision,
        upscaler_version=None if upscaler is None else upscaler.checkpoint.version,
        upscaler_precision="float32" if upscaler is None else upscaler.precision,
    )
    return {PNG_KEY: json.dumps(facts, separators=(",", ":"))}


def encode_images(active: ActiveJob) -> list[bytes]:
    """Returns all images of a finished job as PNGs.

    Raises NonFiniteSample if NaN or infinity reached the end of a trajectory, which must not become an image.
    """
    job, ends = active.drawn_job, download([trajectory.x for trajectory in active.trajectories])
    if not all(bool(torch.isfinite(end).all()) for end in ends):
        raise NonFiniteSample("the network produced NaN or infinity")
    images = WORKER_KINDS[job.kind].finish(job, ends[: len(active.answers)])
    timesteps, upscaler = active.start.plan.timesteps, active.start.upscaler
    texts = (png_text(active.runner, job, timesteps, index, upscaler) for index in range(len(images)))
    return [to_png(image, text, bits=job.bits) for image, text in zip(images, texts, strict=True)]


def trace_arrays(active: ActiveJob) -> dict[str, Array]:
    """Returns the trace of a finished job; empty if it has none.

    `timesteps` and `alphas_cumprod`, float64 of shape (K,), say how noisy x_t is at each moment (`levels_after`).
    `x_t` and `x_0`, float32 of shape (N, K, H, W, C), are the states and the predicted clean images of each image, and
    `x_start`, of shape (N, H, W, C), is the x_t at which its run began.
    """
    calls = active.job.trace
    if not calls:
        return {}
    timesteps, alphas_cumprod = levels_after(active.answers[0].plan, active.runner.checkpoint.schedule, calls)
    return {
        "timesteps": timesteps,
        "alphas_cumprod": alphas_cumprod,
        "x_t": _stacked([[x for x, _ in each.traced] for each in active.answers]),
        "x_0": _stacked([[x0 for _, x0 in each.traced] for each in active.answers]),
        "x_start": _stacked([[each.x_start] for each in active.answers if each.x_start is not None])[:, 0],
    }


def _stacked(images: Sequence[Sequence[Tensor]]) -> Array:
    """Returns the tensors (C, H, W) of each image as one array of shape (N, K, H, W, C)."""
    parts = torch.stack([torch.stack(download(each)) for each in images])
    return parts.permute(0, 1, 3, 4, 2).contiguous().numpy()


def encode_result(active: ActiveJob) -> Encoded:
    """Encodes all that is stored of a finished job; raises NonFiniteSample as `encode_images`."""
    started = time.perf_counter()
    pngs, films = encode_images(active), encode_films(active)
    trace = encode_npz(trace_arrays(active)) if active.job.trace else None
    return Encoded(pngs, films, trace, started, time.perf_counter())


def store_results(store: ResultStore, finished: Sequence[tuple[ActiveJob, Encoded]]) -> list[Spent]:
    """Stores finished jobs, and may be repeated; returns how long it took to encode each, and to store all since then.

    Of a job of which another attempt was first, that one's images stay, and the sweep deletes those of this attempt.

    Raises StoreUnavailable if the store does not answer, or has no room.
    """
    written = [_write_files(store, active, encoded) for active, encoded in finished]
    stored = store.commit_all([manifest for manifest, _ in written])
    spent = []
    for (_, encoded), (manifest, files), data in zip(finished, written, stored, strict=True):
        there = manifest if data is not None else store.manifest(manifest.job.id) or manifest
        text = there.model_dump_json().encode() if data is None else data
        spent.append(
            Spent(
                encode_seconds=encoded.ended - encoded.started,
                store_seconds=time.perf_counter() - encoded.ended,
                ended_at=time.time(),
                manifest=data,
                stored_bytes=files + len(text),
                versions=there.job.versions,
            )
        )
    return spent


def _write_files(store: ResultStore, active: ActiveJob, encoded: Encoded) -> tuple[Manifest, int]:
    """Writes the files of a finished job that its manifest does not hold; returns the manifest, and their bytes."""
    job, files = active.drawn_job, []
    pngs, films, trace = encoded.pngs, encoded.films, encoded.trace
    are_small = sum(map(len, pngs + films)) <= SMALL_BYTES
    for index, (png, film) in enumerate(zip_longest(pngs, films)):
        path = None if are_small else store.write_image(job.id, active.attempt, index, png)
        seed, sha256 = job.task.seed(job.params, index), hashlib.sha256(png).hexdigest()
        kept = {"png": png, "film": film} if are_small else {}
        files.append(ImageFile(path=path, seed=seed, sha256=sha256, **kept))
    strips = packed(films) if films and not are_small else None
    manifest = Manifest(
        job=job,
        precision=active.runner.precision,
        timesteps=active.start.plan.timesteps,
        images=tuple(files),
        trace=None if trace is None else store.write_arrays(job.id, active.attempt, "trace", trace),
        films=None if strips is None else store.write_arrays(job.id, active.attempt, "films", strips),
        finished_at=time.time(),
    )
    return manifest, sum(map(len, (*([] if are_small else pngs), trace or b"", strips or b"")))


def preview_message(active: ActiveJob, index: int, x0: Tensor) -> str:
    """Returns a preview as JSON: a picture of the unfinished image x0, shape (C, H, W), as a PNG in base64."""
    png = picture_of(to_uint8(x0[None].cpu())[0].numpy(), active.job.shown)
    return json.dumps({"index": index, "image_steps": active.image_steps, "png": base64.b64encode(png).decode()})


def encode_films(active: ActiveJob) -> list[bytes]:
    """Returns the film of each image of the answer, a WebP of pictures of its moments side by side.

    It is empty for runs of a single call. The film of a job that another worker has begun shows what came after that.
    """
    filmed = [{moment.call: moment.x0 for moment in each.moments} for each in active.start.drawn]
    calls = [call for call in film_calls(len(active.start.plan)) if all(call in each for each in filmed)]
    if not calls:
        return []
    pixels = download([in_film_size(each[call]) for call in calls for each in filmed])
    shown = [  # of each moment the images of the answer
        WORKER_KINDS[active.job.kind].finish(active.job, [*moment])
        for moment in zip(*[iter(pixels)] * len(filmed), strict=True)
    ]
    return [_encode(film, active.job.shown) for film in zip(*shown, strict=True)]


def _encode(film: Sequence[Tensor], shown: Shown | None) -> bytes:
    """Returns the WebP of moments of shape (C, H, W) in [-1, 1]."""
    strip = np.concatenate([*as_pictures(to_uint8(torch.stack([*film])).numpy(), shown)], axis=1)
    file = io.BytesIO()
    Image.fromarray(strip.squeeze(-1) if strip.shape[-1] == 1 else strip).save(
        file, "WEBP", quality=QUALITY, method=METHOD
    )
    return file.getvalue()
