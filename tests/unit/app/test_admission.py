"""What is let in, what has to come again later, and how long it may run."""

from __future__ import annotations

import pytest

from app.errors import ModelUnavailable, Overloaded
from app.requests.admission import admit, check_served, job_timeout
from jobs.redis.backlog import Backlog
from jobs.redis.workers import ModelReport


def test_too_much_waiting_work_is_refused_until_it_is_short_enough() -> None:
    admit(Backlog(image_steps=6000, jobs=5, rate=10.0), max_wait=600, max_jobs=10)
    with pytest.raises(Overloaded) as caught:
        admit(Backlog(image_steps=7000, jobs=5, rate=10.0), max_wait=600, max_jobs=10)
    assert caught.value.retry_after == 100


def test_the_number_of_jobs_is_limited_without_a_known_rate_too() -> None:
    admit(Backlog(image_steps=10**9, jobs=9, rate=None), max_wait=600, max_jobs=10)
    with pytest.raises(Overloaded) as caught:
        admit(Backlog(image_steps=10, jobs=10, rate=None), max_wait=600, max_jobs=10)
    assert caught.value.retry_after


def test_only_a_model_that_every_worker_refuses_is_unavailable() -> None:
    refused, loading, ready = (
        ModelReport(ready=False, reason="weights damaged"),
        ModelReport(ready=False),
        ModelReport(ready=True),
    )
    for reports in ([], [loading], [refused, loading], [refused, ready]):
        check_served("pets", reports)
    with pytest.raises(ModelUnavailable, match="weights damaged"):
        check_served("pets", [refused, refused])


def test_a_job_has_time_for_its_own_work_and_what_was_before_it() -> None:
    assert job_timeout(10, max_wait=60) == 600
    assert job_timeout(64 * 1000, max_wait=600) == 64_600
