"""The numbers of the contract: which a job needs, and what a worker lacks."""

from __future__ import annotations

import pytest

from difuso.jobs import understanding
from difuso.jobs.contract import Job, new_job
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis.keys import QueueName
from difuso.jobs.understanding import CONTRACT, SINCE, understood_here


def job(**changes: object) -> Job:
    settings = {"n": 1, "steps": 4, "sampler": "ddim", "spacing": "leading", "eta": 0, "seed": 0, **changes}
    return new_job("tiny", Prepared(SamplingParams.model_validate(settings), Generation()), versions=("ab" * 32,))


def test_the_contract_is_the_largest_number_that_anything_has() -> None:
    assert max(SINCE.values(), default=1) == CONTRACT


def test_a_job_needs_the_contract_of_the_newest_thing_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(understanding, "CONTRACT", 4)
    since = {"sampler unipc": 2, "setting guidance_low": 3, "kind restore": 4, "field guided_steps": 4}
    monkeypatch.setattr(understanding, "SINCE", since)
    assert job().contract == 1
    assert job(sampler="unipc").contract == 2
    assert "field trace" in job().needs, "it is always written, and so counts for every job"
    assert job(guidance_low=0.5).contract == 3
    assert job(guidance_low=0.5, sampler="unipc").contract == 3


def test_a_worker_understands_what_this_version_makes_and_says_what_it_lacks() -> None:
    here, needs = understood_here(KINDS), job().needs
    assert here.lacks(needs, CONTRACT) is None
    assert here.model_copy(update={"kinds": frozenset()}).lacks(needs, CONTRACT) == "kind generate"
    assert here.model_copy(update={"settings": here.settings - {"eta"}}).lacks(needs, CONTRACT) == "setting eta"
    assert here.lacks(needs, CONTRACT + 1) == f"contract {CONTRACT + 1}"


@pytest.mark.parametrize("ref", ["faces64@1a2b3c4d5e6f", "a.b-c_d@", "x" * 64 + "@0123456789ab"])
def test_the_name_of_a_queue_is_read_as_it_was_written(ref: str) -> None:
    name = QueueName(ref, contract=12, urgency=7)
    assert QueueName.read(str(name)) == name
    assert name.model == ref.partition("@")[0]


@pytest.mark.parametrize(
    "text", ["default", "difuso.tiny.3", "difuso.tiny@ab.1", "difuso.tiny@ab.1.8", "difuso.T@ab.1.3"]
)
def test_other_queues_are_not_ours(text: str) -> None:
    assert QueueName.read(text) is None
