"""Where a job stands, from the bytes that RQ and a worker have written."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rq.job import JobStatus as RqStatus

from difuso.app.requests.views import JobView, job_text
from difuso.jobs.contract import TASK, FailureCode, Job, JobState, Progress
from difuso.jobs.errors import JobNotFound, JobUnreadable
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis.status import JobStatus, read_status
from difuso.jobs.redis.webhooks import Webhook

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
STARTED = "2026-11-25T00:29:36.250000Z"  # as RQ writes it
ENDED = "2026-11-25T00:29:40.500000Z"


def job(steps: int = 10) -> Job:
    params = SamplingParams(n=2, steps=steps, sampler="ddim", spacing="leading", eta=0, seed=0)
    return Job(id=ID, model="m", params=params, accepted_at=0, timeout=1)


def fields(
    state: RqStatus = RqStatus.QUEUED,
    *,
    content: object = None,
    started: str | None = None,
    ended: str | None = None,
    deaths: int | None = None,
    expired: str | None = None,
    versions: str | None = None,
    webhook: str | None = None,
) -> list[bytes | None]:
    call: list[object] = [TASK, None, [], {"job": job().model_dump(mode="json") if content is None else content}]
    texts = (state.value, started, ended, None if deaths is None else str(deaths), expired, versions, webhook)
    return [zlib.compress(json.dumps(call).encode()), *(None if text is None else text.encode() for text in texts)]


def read(stored: list[bytes | None], progress: Progress | None = None, timesteps: bytes | None = None) -> JobStatus:
    report = None if progress is None else progress.model_dump_json().encode()
    return read_status(stored, [report, timesteps], result_ttl=60)


def test_a_queued_job_has_nothing_but_itself() -> None:
    assert read(fields()) == JobStatus(job=job(), state=JobState.QUEUED)


def test_a_job_that_is_bound_to_other_versions_has_those() -> None:
    versions = ["ab" * 32, "cd" * 32]
    assert read(fields(versions=json.dumps(versions))).job == job().bound_to(tuple(versions))


def test_a_job_shows_its_webhook_and_a_damaged_one_is_none() -> None:
    assert read(fields(webhook='{"url": "https://a.example", "later": 1}')).webhook == Webhook(url="https://a.example")
    with pytest.raises(JobUnreadable):
        read(fields(webhook="{}"))


def test_a_running_job_has_what_its_worker_says() -> None:
    progress = Progress(image_steps=4, eta_seconds=1.5)
    status = read(fields(RqStatus.STARTED, started=STARTED), progress, b"[900, 0.5]")
    assert status.state is JobState.RUNNING
    assert (status.attempts, status.eta_seconds, status.timesteps) == (1, 1.5, "[900, 0.5]")
    assert status.started_at == datetime(2026, 11, 25, 0, 29, 36, 250_000, tzinfo=UTC).timestamp()
    assert (status.ended_at, status.expires_at, status.failure) == (None, None, None)


def test_a_job_that_succeeded_has_done_all_of_its_steps() -> None:
    """Its last report may have come before its last step."""
    status = read(fields(RqStatus.FINISHED, started=STARTED, ended=ENDED), Progress(image_steps=4, eta_seconds=1.5))
    assert status.progress.image_steps == job().image_steps
    assert status.eta_seconds is None
    assert status.ended_at is not None
    assert status.expires_at == status.ended_at + 60


@pytest.mark.parametrize(("expired", "sooner"), [("20.5", True), ("1e300", False)])
def test_images_that_were_deleted_expired_at_that_time(expired: str, sooner: bool) -> None:
    finished = fields(RqStatus.FINISHED, started=STARTED, ended=ENDED)
    status = read(fields(RqStatus.FINISHED, started=STARTED, ended=ENDED, expired=expired))
    planned = read(finished).expires_at
    assert status.expires_at == (float(expired) if sooner else planned)
    cancelled = read(fields(RqStatus.CANCELED, started=STARTED, ended=ENDED, expired=expired)).expires_at
    assert cancelled == float(expired)
    assert read(fields(RqStatus.CANCELED, started=STARTED, ended=ENDED)).expires_at is None


@pytest.mark.parametrize(
    ("said", "failure"), [(FailureCode.TIMEOUT, FailureCode.TIMEOUT), (None, FailureCode.WORKER_LOST)]
)
def test_a_failed_job_says_why(said: FailureCode | None, failure: FailureCode) -> None:
    status = read(fields(RqStatus.FAILED, started=STARTED, ended=ENDED, deaths=3), Progress(failure=said))
    assert (status.failure, status.attempts, status.expires_at) == (failure, 4, None)


def test_a_job_that_went_back_to_its_queue_counts_only_who_started_it() -> None:
    status = read(fields(started=STARTED, ended=ENDED, deaths=1), Progress(image_steps=4, eta_seconds=1.5))
    assert (status.state, status.attempts) == (JobState.QUEUED, 1)
    assert (status.eta_seconds, status.ended_at) == (None, None)


def test_another_job_of_the_same_id_is_not_taken_for_the_first() -> None:
    """An Idempotency-Key may be used again after its job was forgotten."""
    assert read(fields()).job.params.steps == 10
    assert read(fields(content=job(steps=20).model_dump(mode="json"))).job.params.steps == 20


def test_no_job_is_not_found() -> None:
    with pytest.raises(JobNotFound):
        read([None] * 5)


@pytest.mark.parametrize(
    "stored",
    [
        [b"no zlib", *fields()[1:]],
        [zlib.compress(b"no JSON"), *fields()[1:]],
        [zlib.compress(b"{}"), *fields()[1:]],
        fields(content={}),
        fields(content=job().model_dump(mode="json") | {"schema_version": 99}),
        fields(started="yesterday"),
        [*fields()[:-2], b"many", None],
    ],
)
def test_a_damaged_record_is_unreadable(stored: list[bytes | None]) -> None:
    with pytest.raises(JobUnreadable):
        read(stored)


@given(
    state=st.sampled_from(list(RqStatus)),
    timesteps=st.none() | st.lists(st.integers(0, 4000) | st.floats(0, 4000), max_size=5),
)
def test_the_answer_is_the_job_with_its_timesteps(state: RqStatus, timesteps: list[float] | None) -> None:
    status = read(fields(state), timesteps=None if timesteps is None else json.dumps(timesteps).encode())
    assert JobView.model_validate_json(job_text(status, None)) == JobView.of(status).model_copy(
        update={"timesteps": timesteps}
    )
