"""The `trace` of a request: which network calls its names stand for, and how many a job keeps."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.contract import new_job
from difuso.jobs.errors import RequestRefused
from difuso.jobs.images.fitting import Fitted
from difuso.jobs.kinds import KINDS
from difuso.jobs.moments import MAX_BYTES, MAX_MOMENTS, check_trace, trace_of
from difuso.jobs.queries import SamplingQuery
from difuso.model.folders.config import ConditionConfig, ModelConfig
from difuso.model.networks.configs import UNetConfig

MODEL = ModelInfo("m", ModelConfig(UNetConfig(), image_size=64), parameters=1, version="0" * 64)
CONDITIONAL = ModelConfig(UNetConfig(condition_channels=3), image_size=64, condition=ConditionConfig(size=32))
MODELS = dict.fromkeys(KINDS, MODEL) | {"upscale": ModelInfo("m", CONDITIONAL, parameters=1, version="0" * 64)}
SHAPE = (3, 64, 64)
NAMES = st.lists(st.sampled_from(["last", "all"]) | st.integers(1, 9).map(str), max_size=5)
NEEDED: dict[str, dict[str, Any]] = {"denoise": {"sigma": 200}, "restore": {"task": "colorize"}}


@pytest.mark.parametrize(
    ("names", "calls"),
    [
        ([], ()),
        (["last"], (5,)),
        (["all"], (1, 2, 3, 4, 5)),
        (["4", "2", "4"], (2, 4)),
        (["last", "5"], (5,)),
        (["1", "all", "last"], (1, 2, 3, 4, 5)),
        (["7"], (7,)),
    ],
)
def test_names_stand_for_calls_in_order_each_once(names: list[str], calls: tuple[int, ...]) -> None:
    assert trace_of(names, 5) == calls


@given(NAMES, st.integers(9, 40))
def test_a_trace_can_be_sent_as_its_job_shows_it(names: list[str], steps: int) -> None:
    calls = trace_of(names, steps)
    assert trace_of([*map(str, calls)], steps) == calls
    check_trace(calls, n=1, steps=steps, shape=SHAPE)


@given(st.integers(1, 64), st.integers(1, 512), st.sampled_from([1, 3]), st.data())
def test_what_is_kept_fits_into_the_bytes_and_more_does_not(
    n: int, size: int, channels: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, MAX_MOMENTS + 1))
    shape = (channels, size, size)
    fits = count <= MAX_MOMENTS and n * count * 2 * channels * size * size * 4 <= MAX_BYTES
    try:
        check_trace(range(1, count + 1), n=n, steps=1000, shape=shape)
    except RequestRefused as error:
        assert not fits
        most = int(re.findall(r"at most (\d+) calls", error.detail)[0])
        check_trace(range(1, most + 1), n=n, steps=1000, shape=shape)
    else:
        assert fits


@pytest.mark.parametrize(
    ("calls", "n", "message"),
    [
        ((51,), 1, "Input should name calls 1 to 50, the steps of this run"),
        (range(1, 12), 64, "Input should name at most 10 calls with n=64, not 11: .* 64 MiB in all, which are 682 "),
    ],
)
def test_a_refusal_says_what_would_fit(calls: Any, n: int, message: str) -> None:
    with pytest.raises(RequestRefused, match=message) as refusal:
        check_trace(calls, n=n, steps=50, shape=SHAPE)
    assert refusal.value.parameter == "trace"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_calls_of_its_own_run(kind: str) -> None:
    found = KINDS[kind]
    query = found.query.model_validate({"trace": ["last", "1"], **NEEDED.get(kind, {})})
    prepared = found.prepare(query, MODELS[kind], {})
    assert prepared.trace == (1, prepared.params.steps)
    assert new_job("m", prepared).trace == prepared.trace
    assert found.prepare(found.query.model_validate(NEEDED.get(kind, {})), MODELS[kind], {}).trace == ()


@pytest.mark.parametrize("name", ["0", "-1", "01", "first", "ALL", "1.5", "", "1 ", "99999999", "1,2"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        SamplingQuery(trace=[name])


def test_a_key_of_another_trace_is_of_another_request() -> None:
    hashes = {SamplingQuery(trace=trace).request_hash("generate") for trace in (["1"], ["last"], ["1", "last"])}
    assert len(hashes | {SamplingQuery().request_hash("generate")}) == 4


def test_an_estimated_depth_decides_which_calls_there_are() -> None:
    """The noise is known once the image is read, and so is the number of steps."""
    found = KINDS["denoise"]
    query = found.query.model_validate({"trace": ["last"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("difuso.jobs.kinds.denoise.estimate_sigma", lambda png, planes: 2.0)
        prepared = found.prepare(query, MODEL, {"image": Fitted(b"", 1, 1)})
    assert prepared.trace == (prepared.params.steps,)
    assert prepared.params.steps < 10
