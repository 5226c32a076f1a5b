"""Answers about a job, with the headers that they share."""

import hashlib
import math
import time
from typing import Any

from starlette.responses import Response

from difuso.jobs.contract import JobState, Manifest
from difuso.jobs.errors import ResultExpired
from difuso.jobs.images.npz import pixels_of
from difuso.jobs.redis.status import JobStatus
from difuso.jobs.store.result_store import ResultStore
from difuso.model.pictures import picture_of

from ..errors import JobCancelled, JobFailed, NoFilm, NotReady
from ..formats import CONTENT, FORMATS, FilmFormat, Format, Result, rendered_film
from ..http.api_keys import ApiKey
from ..http.headers import Accept, known_content, matches
from .deps import Process
from .views import JobView, Price, job_text, timings

# Links in the OpenAPI description, from an answer that names a job to the operations on it. Every answer about a job
# has this header, whatever its format.
JOB_ID = "$response.header.X-Job-Id"
TARGETS: dict[str, dict[str, str]] = {
    "get_job": {},
    "cancel_job": {},
    "follow_job": {},
    "get_images": {},
    "get_image": {"index": "0"},  # a text, as OpenAPI's own schema asks
    "delete_images": {},
}
JOB_LINKS: dict[str, Any] = {
    name: {"operationId": name, "parameters": {"job_id": JOB_ID, **others}} for name, others in TARGETS.items()
}

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"{FORMATS}. With dry_run the price, as JSON",
        "model": JobView | Price,
        "content": {**CONTENT, Format.JSON: {}},  # FastAPI adds the schema of the model
        "links": JOB_LINKS,
    },
    202: {
        "description": "The job, which is unfinished",
        "model": JobView,
        "links": JOB_LINKS,
    },
}

# The images of a job never change, but they can be deleted, so a client that keeps them asks each time whether they are
# still there. A shared proxy may not keep them: jobs have owners.
KEPT = "private, no-cache"
LONGEST_POLL = 30  # seconds


def job_json(
    status: JobStatus,
    key: ApiKey | None,
    *,
    code: int = 200,
    headers: dict[str, str] | None = None,
    known: str | None = None,
) -> Response:
    """Returns the job as JSON, with a Retry-After header while it is unfinished; or 304.

    In all functions here `key` is the API key of the caller, if the server has keys, and `known` is If-None-Match.
    """
    path = f"/jobs/{status.job.id}{'' if status.timesteps is None else '?timesteps=true'}"
    shared = {"X-Job-Id": status.job.id, "Content-Location": path, **(headers or {})}
    if not status.state.is_terminal:
        shared["Retry-After"] = str(poll_seconds(status))
    return known_content(job_text(status, key), known=known, headers=shared, media_type=Format.JSON, code=code)


def accepted(status: JobStatus, key: ApiKey | None) -> Response:
    """Returns 202 with the job and its Location: it is unfinished."""
    return job_json(status, key, code=202, headers={"Location": f"/jobs/{status.job.id}"})


async def images(
    status: JobStatus, process: Process, accept: Accept, *, key: ApiKey | None, known: str | None = None
) -> Response:
    """Returns all images of a job in the format that the caller prefers.

    Raises NotReady, JobCancelled, JobFailed, ResultExpired or StoreUnavailable if the job has no images to show,
    NotAcceptable if they have no format that the caller accepts, and Overloaded if too many requests for images wait.
    """
    store, renderers = process.store, process.renderers
    manifest = await renderers.read(lambda: finished(status, store)) if status.result is None else status.result
    form = accept.choose(status.job.planes)
    render = form.render
    if render is None:
        return job_json(status, key, known=known)
    tag = form.entity_tag(manifest)
    headers = _image_headers(status, tag, "image")
    if matches(known, tag):
        return Response(status_code=304, headers=headers)
    if form is Format.PNG and len(manifest.images) == 1:
        body = manifest.images[0].png or await renderers.read(lambda: store.image(manifest, 0))
    else:

        def read_and_render() -> bytes:
            pngs = [store.image(manifest, index) for index in range(len(manifest.images))]
            trace = store.trace(manifest) if form.shows_trace else None
            return render(Result(manifest, pngs, _ends(manifest, store), trace))

        body = await renderers.run(read_and_render)
    headers["Content-Disposition"] = f'inline; filename="{status.job.id}.{form.extension}"'
    return Response(body, headers=headers, media_type=form)


def image(status: JobStatus, store: ResultStore, index: int, *, known: str | None = None) -> Response:
    """Returns one image of a job as PNG, or a picture of it if it is not one. Blocks; raises like `images`, but never
    Overloaded.
    """
    manifest, job = finished(status, store), status.job
    tag = f'"{manifest.images[index].sha256}"'
    headers = _image_headers(status, tag, f"images/{index}")
    if matches(known, tag):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = f'inline; filename="{status.job.id}-{index}.png"'
    png = store.image(manifest, index)
    if job.planes > 1:
        png = picture_of(pixels_of(png, planes=job.planes), job.shown)
    return Response(png, headers=headers, media_type=Format.PNG)


def film(status: JobStatus, store: ResultStore, index: int, form: FilmFormat, *, known: str | None = None) -> Response:
    """Returns the film of one image of a job. Blocks; raises like `image`, and NoFilm."""
    manifest = finished(status, store)
    strip = store.film(manifest, index)
    if strip is None:
        raise NoFilm
    tag = f'"{hashlib.sha256(form.encode() + strip).hexdigest()}"'
    headers = _image_headers(status, tag, f"images/{index}/film")
    if matches(known, tag):
        return Response(status_code=304, headers=headers)
    name = f"{status.job.id}-{index}-film.{form.removeprefix('image/')}"
    headers["Content-Disposition"] = f'inline; filename="{name}"'
    job, png = status.job, store.image(manifest, index)
    body = rendered_film(strip, png, form, planes=job.planes, shown=job.shown)
    return Response(body, headers=headers, media_type=form)


def finished(status: JobStatus, store: ResultStore) -> Manifest:
    """Returns the manifest of a job that succeeded.

    Raises:
        NotReady, JobCancelled, JobFailed: if the job has not succeeded.
        ResultExpired: if its images were deleted, or their time is over.
    """
    if status.state is JobState.CANCELLED:
        raise JobCancelled
    if status.failure is not None:
        raise JobFailed(status.failure, status.progress.reason)
    if status.state is not JobState.SUCCEEDED:
        raise NotReady(retry_after=poll_seconds(status))
    is_over = status.expires_at is not None and time.time() >= status.expires_at  # workers delete a little later
    manifest = None if is_over else store.manifest(status.job.id)
    if manifest is None:
        raise ResultExpired
    return manifest


def poll_seconds(status: JobStatus) -> int:
    """Returns the seconds until the next poll: until the job should be done, but at most LONGEST_POLL."""
    return 2 if status.eta_seconds is None else min(LONGEST_POLL, max(1, math.ceil(status.eta_seconds)))


def _ends(manifest: Manifest, store: ResultStore) -> list[bytes]:
    """Returns the two images between which an interpolation lies; none for one between seeds, and for other jobs."""
    if not manifest.job.task.is_sequence:
        return []
    ends = [store.upload(manifest.job.id, image.sha256) for image in manifest.job.pictures]
    if None in ends:
        raise ResultExpired
    return [end for end in ends if end is not None]


def _image_headers(status: JobStatus, tag: str, path: str) -> dict[str, str]:
    """Returns the headers of all answers with images; `path` is that of the answer below its job."""
    durations = timings(status).model_dump(exclude_none=True)
    return {
        "X-Job-Id": status.job.id,
        "Content-Location": f"/jobs/{status.job.id}/{path}",
        "ETag": tag,
        "Cache-Control": KEPT,
        "Vary": "Accept" if status.job.owner is None else "Accept, Authorization",
        "Server-Timing": ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in durations.items()),
    }
