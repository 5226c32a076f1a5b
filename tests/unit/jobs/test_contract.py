"""The job contract: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from difuso.jobs.contract import Job
from difuso.jobs.errors import JobIsNewer, JobUnreadable
from difuso.jobs.kinds.base import Task
from difuso.jobs.kinds.denoise import MAX_SIGMA, Denoising
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.kinds.interpolate import Interpolation
from difuso.jobs.kinds.restore import Restoring
from difuso.jobs.params import SamplingParams
from difuso.jobs.understanding import CONTRACT

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (Generation(), "generate"),
        (Interpolation(shares=(0.5,), depth=1), "interpolate"),
        (Interpolation(shares=(0.5,), depth=None, seeds=(3, 9)), "interpolate"),
        (Denoising(depth=1), "denoise"),
        (Restoring(task="colorize"), "restore"),
    ],
)
def test_the_task_is_known_by_its_kind(task: Task, kind: str) -> None:
    params = SamplingParams(n=1, steps=1, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=ID, task=task, model="m", params=params, accepted_at=0, timeout=1)
    assert job.kind == kind
    written = job.model_dump(mode="json")
    assert written["task"]["kind"] == kind
    assert Job.decode(json.loads(json.dumps(written))) == job
    with pytest.raises(JobUnreadable):
        Job.decode(written | {"task": {"kind": "something else"}})
    with pytest.raises(JobUnreadable):
        Job.decode(written | {"task": written["task"] | {"more": 1}})


def test_tasks_are_written_by_the_names_that_clients_and_pictures_have() -> None:
    restoring = Restoring(task="colorize").model_dump(mode="json")
    assert list(restoring) == ["kind", "task", "factor", "blur", "width", "sigma"]
    assert restoring["task"] == "colorize"
    mixed = Interpolation(shares=(0.5,), depth=1).model_dump(mode="json")
    assert list(mixed) == ["kind", "shares", "depth", "mode", "noise", "seeds"]
    denoising = Denoising(depth=1).model_dump(mode="json")
    assert list(denoising) == ["kind", "sigma", "estimated", "depth", "mode", "average"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Interpolation(shares=(), depth=1),
        lambda: Interpolation(shares=(1.01,), depth=1),
        lambda: Denoising(depth=1, sigma=MAX_SIGMA * 1.01),
        lambda: Restoring(task="deblur", width=33),
        lambda: Restoring(task="inpaint", sigma=256),
    ],
)
def test_a_task_out_of_range_is_none(wrong: Callable[[], Task]) -> None:
    with pytest.raises(ValidationError):
        wrong()


def test_two_inversions_are_two_images_more_that_no_classifier_guides() -> None:
    params = SamplingParams(n=3, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0, label=1)
    mixed = Interpolation(shares=(0.1, 0.5, 0.9), depth=499)
    arc = mixed.model_copy(update={"mode": "ddim"})
    assert Generation().image_steps(params) == mixed.image_steps(params) == 30
    assert arc.image_steps(params) == 3 * 10 + 2 * 9
    assert arc.image_steps(params.model_copy(update={"guidance_scale": 2.0})) == 2 * (3 * 10 + 2 * 9)
    assert arc.image_steps(params.model_copy(update={"classifier_scale": 2.0})) == 3 * 20 + 2 * 9


def test_an_average_is_one_answer() -> None:
    params = SamplingParams(n=3, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)
    for average, answers in ((False, 3), (True, 1)):
        task = Denoising(sigma=25, depth=57, average=average)
        job = Job(id=ID, task=task, model="m", params=params, accepted_at=0, timeout=1)
        assert job.answers == answers
        assert job.image_steps == 30


@pytest.mark.parametrize("content", [None, {}, [], "job", {"contract": CONTRACT}, {"contract": "2"}])
def test_anything_else_is_unreadable(content: object) -> None:
    with pytest.raises(JobUnreadable):
        Job.decode(content)


def test_a_job_of_a_newer_contract_is_distinguished_from_a_damaged_one() -> None:
    params = SamplingParams(n=1, steps=1, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=ID, model="m", params=params, accepted_at=0, timeout=1)
    newer = job.model_dump(mode="json") | {"contract": CONTRACT + 1, "a field of tomorrow": 1}
    with pytest.raises(JobIsNewer, match=f"contract {CONTRACT + 1}"):
        Job.decode(newer)


def test_each_kind_of_guidance_costs_as_much_again() -> None:
    params = SamplingParams(n=3, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0, label=1)
    guided = params.model_copy(update={"guidance_scale": 2.0})
    assert params.calls() == params.calls(4) == 10
    assert guided.calls() == params.model_copy(update={"classifier_scale": 2.0}).calls() == 20
    assert guided.model_copy(update={"classifier_scale": 2.0}).calls() == 30


def test_guidance_costs_only_where_it_acts() -> None:
    params = SamplingParams(n=3, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0, guidance_scale=2.0)
    both = params.model_copy(update={"classifier_scale": 2.0})
    arc = Interpolation(shares=(0.1, 0.5, 0.9), depth=99, mode="ddim")
    assert (params.calls(4), both.calls(4), params.calls(0)) == (14, 24, 10)
    assert Generation().image_steps(params, 4) == 3 * 14
    assert (arc.image_steps(params, 4), arc.image_steps(both, 4)) == (3 * 14 + 2 * 13, 3 * 24 + 2 * 13)
    job = Job(id=ID, model="m", params=params, guided_steps=4, accepted_at=0, timeout=1)
    assert job.image_steps == 3 * 14
    assert Job.decode(job.model_dump(mode="json")) == job


@pytest.mark.parametrize("spacing", ["", "even", "10", "at:", "at:1,", "at:\u0661"])
def test_spacings_are_rules_or_lists(spacing: str) -> None:
    with pytest.raises(ValidationError):
        SamplingParams(n=1, steps=1, sampler="ddim", spacing=spacing, eta=0, seed=0)
