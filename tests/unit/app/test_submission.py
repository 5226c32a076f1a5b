"""What comes with a request is stored with its job, and with no other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.errors import Overloaded
from app.http.negotiation import Preference
from app.requests.submission import Submission
from app.store_probe import StoreProbe
from jobs.contract import Job, JobState, JobStatus
from jobs.cost import Cost
from jobs.errors import IdempotencyConflict, JobNotFound
from jobs.images.fitting import FittedImage
from jobs.kinds.base import Prepared
from jobs.kinds.generate import Generation
from jobs.params import SamplingParams
from jobs.redis.backlog import Backlog, Forecast
from jobs.redis.limits import Limits
from jobs.store.result_store import ResultStore

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PARAMS = SamplingParams(n=1, steps=1, sampler="ddim", spacing="leading", eta=0, seed=0)
JOB = Job(id=ID, model="tiny", params=PARAMS, accepted_at=0, timeout=1)


@dataclass
class Queue:
    """Of one job, in memory; it can be full, or not have heard yet of what another front end has just accepted."""

    accepted: str | None = None
    jobs: int = 0
    is_behind: bool = False
    reserved: bool = False

    def backlog(self, model: str, urgency: int) -> Backlog:
        return Backlog(jobs=self.jobs, image_steps=self.jobs, rate=1.0)

    def reserve(self, job: Job, cost: Cost, limits: Limits) -> None:
        self.reserved = True

    def refusal(self, job: Job, cost: Cost, limits: Limits) -> None:
        return None

    def forecast(self, job: Job) -> Forecast:
        return Forecast(position=self.jobs, lone_seconds=0.25, eta_seconds=1.26)

    def submit(self, job: Job, *, request_hash: str) -> bool:
        if self.accepted not in (None, request_hash):
            raise IdempotencyConflict
        new, self.accepted = self.accepted is None, request_hash
        return new

    def status(self, job_id: str) -> JobStatus:
        if self.accepted is None or self.is_behind:
            raise JobNotFound
        return JobStatus(job=JOB, state=JobState.QUEUED)


def submission(queue: Queue, store: ResultStore, key: str | None) -> Submission:
    nothing = cast("Any", None)
    settings = cast("Any", SimpleNamespace(max_wait=60, max_jobs=5))
    return Submission(
        process=cast("Any", SimpleNamespace(settings=settings, queue=queue, store=store, probe=StoreProbe(store))),
        caller=None,
        request_id="",
        accept=nothing,
        preference=Preference(seconds=0, applied=None),
        urgency=nothing,
        idempotency_key=key,
    )


def sent(png: bytes) -> Prepared:
    return Prepared(PARAMS, Generation(), (FittedImage(png, width=1, height=1),))


def test_another_request_with_the_same_key_leaves_the_first_ones_pictures_alone(tmp_path: Path) -> None:
    queue, store = Queue(), ResultStore(str(tmp_path))
    submit = submission(queue, store, "key")._submit
    assert submit(JOB, "first", sent(b"first"))[0]
    assert not submit(JOB, "first", sent(b"first"))[0]
    with pytest.raises(IdempotencyConflict):
        submit(JOB, "second", sent(b"second"))
    assert store.upload(ID, sent(b"first").images[0].sha256) == b"first"


def test_of_two_requests_at_once_with_one_key_the_refused_one_leaves_the_other_its_pictures(tmp_path: Path) -> None:
    """Both look for the job before either has queued it, so both store what they came with."""
    queue, store = Queue(), ResultStore(str(tmp_path))
    submit = submission(queue, store, "key")._submit
    assert submit(JOB, "first", sent(b"first"))[0]
    queue.is_behind = True
    with pytest.raises(IdempotencyConflict):
        submit(JOB, "second", sent(b"second"))
    assert store.upload(ID, sent(b"first").images[0].sha256) == b"first"


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    queue, store = Queue(jobs=5), ResultStore(str(tmp_path))
    with pytest.raises(Overloaded):
        submission(queue, store, None)._submit(JOB, "first", sent(b"first"))
    assert not list(tmp_path.iterdir())
    assert queue.accepted is None


def test_a_price_reserves_queues_and_stores_nothing(tmp_path: Path) -> None:
    queue = Queue(jobs=4)
    price = submission(queue, ResultStore(str(tmp_path)), None)._price(JOB, Cost(2, 3))
    assert (price.image_steps, price.images, price.seconds, price.eta_seconds) == (1, 1, 0.2, 1.3)
    assert (price.cost, price.stored_bytes) == (2, 3)
    assert price.params == PARAMS
    assert not queue.reserved
    assert queue.accepted is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_refused_has_no_price(tmp_path: Path) -> None:
    with pytest.raises(Overloaded):
        submission(Queue(jobs=5), ResultStore(str(tmp_path)), None)._price(JOB, Cost(2, 3))
