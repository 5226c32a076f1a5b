"""What is let in, what has to come again later, and how long it may run."""

from __future__ import annotations

from typing import Any

import pytest

from difuso.app.errors import ModelUnavailable, NotUnderstood, Overloaded
from difuso.app.requests.admission import admit, check_served, drawing_ref, job_timeout
from difuso.jobs.cascade import Enlarging
from difuso.jobs.contract import new_job
from difuso.jobs.errors import VersionGone
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis.backlog import Backlog
from difuso.jobs.redis.workers import ModelReport, WorkerReport
from difuso.jobs.understanding import CONTRACT, Understanding, understood_here

VERSION = "ab" * 32
JOB = new_job(
    "pets",
    Prepared(SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0), Generation()),
    versions=(VERSION,),
)


def worker(*, knows: Understanding | None = None, **facts: Any) -> WorkerReport:
    model = ModelReport(**{"name": "pets", "version": VERSION, **facts})
    return WorkerReport(name="w", at=0, slots=8, understands=knows or understood_here(KINDS), models=(model,))


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
        worker(ready=False, reason="weights damaged"),
        worker(ready=False),
        worker(ready=True),
    )
    for workers in ([], [loading], [refused, loading], [refused, ready]):
        check_served(JOB, workers)
    with pytest.raises(ModelUnavailable, match="weights damaged"):
        check_served(JOB, [refused, refused])


def test_a_folder_whose_version_nobody_knows_may_hold_the_one_of_the_job() -> None:
    with pytest.raises(ModelUnavailable):
        check_served(JOB, [worker(version=None, ready=False, reason="no config")])
    check_served(JOB, [worker(version=None, ready=False, reason="no config"), worker(ready=True)])
    check_served(JOB, [worker(version="cd" * 32, ready=False, reason="another version is damaged")])


def test_a_job_whose_version_nobody_holds_is_for_the_newest_that_there_is() -> None:
    """So a front end that knows only a newer version, which workers refuse or lack, refuses nobody."""
    newest = worker(version="cd" * 32, ready=True, newest=True)
    refuses = worker(ready=False, reason="no memory for both")
    for workers in ([newest], [newest, refuses]):
        assert drawing_ref(JOB, workers) == "pets@cdcdcdcdcdcd"
        check_served(JOB, workers)
    assert drawing_ref(JOB, [newest, worker(ready=True)]) == drawing_ref(JOB, []) == JOB.ref
    assert drawing_ref(JOB.model_copy(update={"pinned": True}), [newest]) == JOB.ref


def test_a_pinned_version_that_nobody_holds_is_refused() -> None:
    pinned, other = JOB.model_copy(update={"pinned": True}), worker(version="cd" * 32, ready=True)
    check_served(JOB, [other])
    check_served(pinned, [worker(ready=True)])
    for workers in ([], [other], [worker(ready=False)]):
        with pytest.raises(VersionGone):
            check_served(pinned, workers)


def test_a_pinned_version_is_awaited_while_its_workers_sleep() -> None:
    pinned = JOB.model_copy(update={"pinned": True})
    check_served(pinned, [], asleep=True)


def test_a_cascade_is_refused_where_no_worker_serves_both_models() -> None:
    stage = Enlarging(
        steps=2, sampler="ddim", spacing="trailing", eta=0, variance="fixed_small", clip="static",
        model="up", augmentation=0, weight=4,
    )  # fmt: skip
    job = JOB.model_copy(update={"task": Generation(upscale=stage), "versions": (VERSION, VERSION)})
    alone = worker(ready=True).model_copy(update={"only": ("pets",)})
    for other in (worker(ready=True), alone.model_copy(update={"only": ("pets", "up")})):
        check_served(job, [alone, other])
    check_served(job, [])
    up = ModelReport(name="up", version=VERSION, ready=False, load_seconds=1, bytes=6)
    pair = (worker(ready=True, bytes=5).models[0], up)
    small, large = (worker(ready=True).model_copy(update={"models": pair, "room": room}) for room in (10, 11))
    check_served(job, [small, large])
    for workers in ([alone], [small], [alone, small]):
        with pytest.raises(ModelUnavailable, match="No worker serves pets and up together"):
            check_served(job, workers)


def test_what_no_worker_of_the_version_understands_is_refused_for_now() -> None:
    """A worker that has another version does not help, and one that is newer than this server does."""
    older = understood_here(KINDS).model_copy(update={"samplers": frozenset({"ddpm"})})
    with pytest.raises(NotUnderstood, match="do not know sampler ddim yet"):
        check_served(JOB, [worker(ready=True, knows=older), worker(version="cd" * 32, ready=True)])
    check_served(JOB, [worker(ready=True, knows=older), worker(ready=True)])
    newer = JOB.model_copy(update={"contract": CONTRACT + 1})
    with pytest.raises(NotUnderstood, match=f"contract {CONTRACT + 1}"):
        check_served(newer, [worker(ready=True)])


def test_a_job_has_time_for_its_own_work_and_what_was_before_it() -> None:
    assert job_timeout(10, max_wait=60) == 600
    assert job_timeout(64 * 1000, max_wait=600) == 64_600
