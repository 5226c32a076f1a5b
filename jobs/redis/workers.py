"""The reports of workers, and the speeds computed from them."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import redis
from pydantic import Field, ValidationError

from difuso.model.folders.config import Precision
from difuso.model.folders.files import VERSION, model_of, ref_of

from ..params import MODEL_NAME
from ..understanding import Understanding
from ..values import Reported
from . import keys
from .holds import let_go


class ModelReport(Reported):
    """A worker's report on one version of a model."""

    name: str = Field(pattern=MODEL_NAME)
    version: str | None = Field(default=None, pattern=VERSION)  # None if the folder does not say
    # whether it is the newest version of this model that the worker holds, which it binds waiting jobs to
    newest: bool = False
    ready: bool  # whether the version is loaded and warm
    # of a version that is loaded when it has jobs: the seconds that this takes, as measured or estimated by its bytes
    load_seconds: float | None = Field(default=None, ge=0)
    loading: bool = False  # whether that is happening now
    bytes: int = 0  # that it takes of its worker's `room`
    # the measured image-steps per second with full batches
    rate: float | None = Field(default=None, gt=0)
    # the measured time of one step of a single image
    step_seconds: float | None = Field(default=None, ge=0)
    precision: Precision = "float32"  # the number format in which it computes the model
    reason: str | None = None  # why the worker refuses this version; None if it does not

    @property
    def ref(self) -> str:
        return ref_of(self.name, self.version or "")

    @property
    def held(self) -> bool:
        """Whether the worker draws with this version, as soon as it is loaded."""
        return self.ready or self.load_seconds is not None


class WorkerReport(Reported):
    """A worker's report on itself, written every few seconds; `at` is its time in seconds since the epoch."""

    name: str
    at: float
    host: str = ""
    difuso: str = ""  # the version of the program
    slots: int
    understands: Understanding = Understanding()
    only: tuple[str, ...] = ()  # the models that it serves; empty for all of its folder
    room: int | None = None  # the bytes that are loaded at a time at most, beside what stays loaded; None without bound
    models: tuple[ModelReport, ...]

    def holds(self, ref: str) -> bool:
        """Whether the worker can draw with this version of a model."""
        return any(each.held and each.ref == ref for each in self.models)

    def may_serve(self, refs: Collection[str]) -> bool:
        """Whether the worker may come to hold all of these versions of models at a time."""
        takes = sum(each.bytes for each in self.models if each.ref in refs)
        serves_all = not self.only or set(map(model_of, refs)).issubset(self.only)
        return serves_all and (self.room is None or takes <= self.room)


STALE_SECONDS = 10  # without a report, after which a worker does not count; it sends one with each heartbeat
LOST_SECONDS = 600  # after which one that was frozen does not come back either


def publish_report(client: redis.Redis, report: WorkerReport) -> None:
    client.hset(keys.WORKERS, report.name, report.model_dump_json())


def ask_reports(client: Any) -> Any:
    """Sends the command whose answer `read_reports` reads, or adds it to a pipeline."""
    return client.hgetall(keys.WORKERS)


def read_reports(answer: Mapping[bytes, bytes]) -> list[WorkerReport]:
    """Returns the reports, without those that are stale or unreadable.

    A report from further ahead than clocks may disagree is stale: it would outlive its worker by as much.
    """
    return [report for report in map(_live, answer.values()) if report is not None]


def _live(value: bytes) -> WorkerReport | None:
    report = _read(value)
    return report if report and abs(time.time() - report.at) <= STALE_SECONDS else None


@lru_cache(512)  # each request reads the reports of all workers, which write a new one every few seconds
def _read(value: bytes) -> WorkerReport | None:
    try:
        return WorkerReport.model_validate_json(value)
    except ValidationError:
        return None


def live_reports(client: redis.Redis) -> list[WorkerReport]:
    return read_reports(ask_reports(client))


def prune_reports(client: redis.Redis) -> None:
    """Removes the reports that are unreadable, or of lost workers, and lets go of these, which operators held back."""
    for name, value in ask_reports(client).items():
        report = _read(value)
        if report is None or abs(time.time() - report.at) > LOST_SECONDS:
            client.hdel(keys.WORKERS, name)
            if report is not None:
                let_go(client, "worker", report.name)


def reports_on(ref: str, reports: Iterable[WorkerReport]) -> list[ModelReport]:
    """Returns what live workers report on one version of a model; a folder without a version may hold any."""
    refs = ref, ref_of(model_of(ref), "")
    return [each for report in reports for each in report.models if each.ref in refs]


def refusal(ref: str, reports: Iterable[WorkerReport]) -> str | None:
    """Returns why no worker can draw with a version; None if one can or may still load it, or if none reports on it."""
    found = reports_on(ref, reports)
    if not found or any(each.ready or each.reason is None for each in found):
        return None
    return found[0].reason


def apart(refs: Sequence[str], reports: Iterable[WorkerReport]) -> str | None:
    """Returns why no worker that holds the first version can draw with all; None if one may, or if none holds it."""
    holding = [report for report in reports if report.holds(refs[0])]
    if not holding or any(report.may_serve(refs) for report in holding):
        return None
    return f"No worker serves {' and '.join(map(model_of, refs))} together; send the image to /upscale."


def held_refs(reports: Iterable[WorkerReport]) -> frozenset[str]:
    """Returns all versions of models that live workers hold."""
    return frozenset(each.ref for report in reports for each in report.models if each.held)


def load_seconds(ref: str, reports: Iterable[WorkerReport]) -> float | None:
    """Returns the seconds that loading a version takes which no live worker has loaded, but one can; else None."""
    found = reports_on(ref, reports)
    seconds = [each.load_seconds for each in found if each.load_seconds is not None]
    return None if any(each.ready for each in found) else min(seconds, default=None)


def total_rate(ref: str, reports: Sequence[WorkerReport]) -> float | None:
    """Returns the image-steps per second of all live workers for one version; None if none has measured it.

    Of those that have not loaded it only one counts, if no other has.
    """
    found = [each for each in reports_on(ref, reports) if each.held and each.rate]
    rates = [each.rate or 0.0 for each in found]
    return sum(each.rate or 0.0 for each in found if each.ready) or max(rates, default=None)


def lone_job_seconds(ref: str, reports: Sequence[WorkerReport], *, image_steps: int, images: float) -> float | None:
    """Returns the seconds that a job takes alone on the fastest worker; None if none has measured its speed.

    Full batches have the worker's rate, and no image is faster than a single image. `images` step side by side.
    """
    times = [
        max(image_steps / report.rate, image_steps / images * (report.step_seconds or 0.0))
        for report in reports_on(ref, reports)
        if report.held and report.rate
    ]
    return min(times, default=None)
