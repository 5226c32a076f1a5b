"""The job contract: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.contract import (
    MAX_SEED,
    SCHEMA,
    SPACING_RULES,
    ClipName,
    Job,
    JobKind,
    JobState,
    SamplerName,
    SamplingParams,
    VarianceName,
)
from jobs.errors import JobUnreadable
from model.clipping import ClipMode
from model.samplers import SAMPLERS, Variance
from model.spacing import KARRAS, SPACINGS

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
PARAMS = st.builds(
    SamplingParams,
    n=st.integers(1, 64),
    steps=st.integers(1, 4000),
    sampler=st.sampled_from(get_args(SamplerName)),
    spacing=st.sampled_from(SPACING_RULES)
    | st.lists(st.integers(1, 9999).map(str), min_size=1, max_size=100).map(",".join),
    eta=st.floats(0, 1),
    seed=st.integers(0, MAX_SEED),
    label=st.none() | st.integers(0, 1000),
    guidance_scale=st.floats(0, 100),
)
JOBS = st.builds(
    Job,
    schema_version=st.just(SCHEMA),
    id=st.uuids().map(str),
    kind=st.sampled_from(JobKind),
    model=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    params=PARAMS,
    urgency=st.integers(0, 7),
    accepted_at=st.floats(0, 1e10),
    timeout=st.integers(1, 10**6),
)


@given(JOBS)
def test_a_job_survives_the_queue(job: Job) -> None:
    wire = json.dumps(job.model_dump(mode="json"))
    assert Job.decode(json.loads(wire)) == job
    assert len(wire) < 2048


@pytest.mark.parametrize("content", [None, {}, [], "job", {"schema_version": SCHEMA}, {"schema_version": SCHEMA + 1}])
def test_anything_else_is_unreadable(content: object) -> None:
    with pytest.raises(JobUnreadable):
        Job.decode(content)


def test_a_job_of_another_version_is_unreadable() -> None:
    params = SamplingParams(n=1, steps=1, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=ID, kind=JobKind.GENERATE, model="m", params=params, accepted_at=0, timeout=1)
    with pytest.raises(JobUnreadable, match="schema 2"):
        Job.decode(job.model_dump(mode="json") | {"schema_version": 2})


def test_values_cannot_change() -> None:
    params = SamplingParams(n=1, steps=1, sampler="ddim", spacing="leading", eta=0, seed=0)
    with pytest.raises(ValidationError):
        params.n = 2  # type: ignore[misc]


def test_each_kind_of_guidance_costs_as_much_again() -> None:
    params = SamplingParams(n=3, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0, label=1)
    assert params.image_steps == 30
    assert params.model_copy(update={"guidance_scale": 2.0}).image_steps == 60
    assert params.model_copy(update={"classifier_scale": 2.0}).image_steps == 60
    assert params.model_copy(update={"guidance_scale": 2.0, "classifier_scale": 2.0}).image_steps == 90


@pytest.mark.parametrize("spacing", ["", "even", "10,", ",10", "10,,10", "-1", "1.5", "10000", "10 10", "\u0661"])
def test_spacings_are_rules_or_sections(spacing: str) -> None:
    with pytest.raises(ValidationError):
        SamplingParams(n=1, steps=1, sampler="ddim", spacing=spacing, eta=0, seed=0)


def test_the_names_are_those_of_the_science() -> None:
    """Neither package imports the other, so this test holds them together."""
    assert set(get_args(SamplerName)) == set(SAMPLERS)
    assert set(SPACING_RULES) == {*SPACINGS, KARRAS}
    assert get_args(VarianceName) == get_args(Variance)
    assert get_args(ClipName) == get_args(ClipMode)


def test_what_has_ended_has_ended() -> None:
    assert {state for state in JobState if state.is_terminal} == {"succeeded", "failed", "cancelled"}
