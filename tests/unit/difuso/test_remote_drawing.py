"""What is sent to a server is what was settled before, whatever the server would fill in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.routers.models import ModelView
from difuso.client.flows import posting
from difuso.drawing.remote_drawing import ServedModel
from difuso.drawing.served_views import ServedView
from jobs.catalog import ModelInfo, read_catalog
from jobs.defaults import fill_in
from jobs.errors import RequestRefused
from jobs.params import SamplingParams
from jobs.queries import SamplingQuery
from model.conditions import vector_size
from model.errors import PlanError
from model.folders.config import ModelConfig, SamplerDefaults
from model.networks.configs import UNetConfig
from tests.small_models import CLASSES, CLASSIFIER, CONDITIONS, NETWORK

SHIPPED = read_catalog(Path(__file__).parents[3] / "checkpoints").models

PLANS = {"few": SamplerDefaults("ddim", 3, "at:40.5,300,900", 0.5)}
MODELS = {
    **SHIPPED,
    "guided": ModelInfo(
        "guided",
        ModelConfig(UNetConfig(**NETWORK), image_size=8, prediction="v", classifier=CLASSIFIER, plans=PLANS),
        0,
        "ab" * 32,
    ),
}
QUERIES: tuple[dict[str, Any], ...] = (
    {},
    {"steps": 7},
    {"sampler": "ddpm"},
    {"sampler": "unipc", "steps": 8},
    {"sampler": "ddpm", "variance": "fixed_large", "clip": "none"},
    {"sampler": "ddim", "eta": 0.5, "steps": 12},
    {"spacing": "at:12.5,160,999"},
    {"spacing": "5,4,3"},
    {"plan": "few"},
    {"plan": "few", "clip": "none"},
    {"label": "1"},
    {"label": "2", "guidance_scale": 2.5},
    {"label": "2", "guidance_scale": 2.5, "guidance_low": 0.2, "guidance_high": 3.0},
    {"label": "2", "classifier_scale": 2.5},
    {"label": "all"},
    {"label": ["2", "0", "1"], "guidance_scale": 2.5},
    {"label": ["2", "2", "1"], "seed": [8, 4, 6]},
)


def filled(query: SamplingQuery, model: ModelInfo) -> SamplingParams:
    return fill_in(query, model).params


def served(info: ModelInfo) -> ServedModel:
    facts = ModelView.of([info], []).model_dump(mode="json", exclude_none=True)
    return ServedModel("http://nowhere", ServedView.model_validate(facts))


def accepted() -> Iterator[tuple[str, SamplingQuery]]:
    """The queries that each model can run; the server explains why it cannot run the others."""
    for (name, info), parameters in itertools.product(MODELS.items(), QUERIES):
        query = SamplingQuery(**{"n": 3, "seed": 5} | parameters)
        with suppress(RequestRefused, PlanError):
            filled(query, info)
            yield name, query


CASES = [*accepted()]


def test_most_queries_can_be_run() -> None:
    assert len(CASES) > len(MODELS) * len(QUERIES) / 2
    assert {name for name, query in CASES if query.label} > {"guided"}
    assert any(query.plan for _, query in CASES)


@pytest.mark.parametrize(("name", "query"), CASES, ids=str)
def test_settings_stay_as_they_were_settled(name: str, query: SamplingQuery) -> None:
    run = filled(query, MODELS[name])
    model = served(MODELS[name])
    sent = {key: value for key, value in model._options(run, 0).items() if key in SamplingQuery.model_fields}
    label = sent["label"]
    sent["label"] = None if label is None else [*map(str, label)] if isinstance(label, tuple | list) else str(label)
    assert filled(SamplingQuery(**sent), MODELS[name]) == run


def test_conditions_reach_the_server_as_they_were_settled() -> None:
    conditions = {name: each for name, each in CONDITIONS.items() if not each.is_image}
    network = UNetConfig(vector_size=vector_size(conditions), **NETWORK)
    info = ModelInfo("told", ModelConfig(network, image_size=8, conditions=conditions), 0, "ab" * 32)
    given = ["style:[[0.5,1],[2,3]]", "glasses:round", "age:33"]
    asked: dict[str, Any] = {"condition": given, "seed": [5], "guide": ["age"], "guidance_scale": 2.0}
    query = SamplingQuery(**asked)
    run = filled(query, info)
    sent = posting("generate", (), served(info)._options(run, 0)).params
    conditions_sent, guide = ([value for name, value in sent if name == wanted] for wanted in ("condition", "guide"))
    assert filled(query.model_copy(update={"condition": conditions_sent, "guide": guide}), info) == run


def test_keys_differ_where_jobs_differ() -> None:
    model = served(MODELS["guided"])
    run = filled(SamplingQuery(n=3, seed=[5]), MODELS["guided"])
    changes = ({"seed": 6}, {"n": 2}, {"steps": 4}, {"label": 1}, {"label": (1, 1, 0)}, {"seed": (5, 6, 7)})
    others = [run.model_copy(update=change) for change in changes]
    keys = [model._options(each, 0)["idempotency_key"] for each in (run, *others)]
    keys.append(model._options(run, 1)["idempotency_key"])
    assert len(set(keys)) == len(changes) + 2
    assert served(MODELS["guided"])._options(run, 0) == model._options(run, 0)


def test_classes_that_share_a_name_are_told_apart() -> None:
    """ImageNet has two classes "crane", and the name is that of the first."""
    classes = ("tench", "crane", "dog", "crane")
    config = ModelConfig(UNetConfig(num_classes=4, **NETWORK), image_size=8, classes=classes)
    info = ModelInfo("birds", config, 0, "ab" * 32)
    run = filled(SamplingQuery(n=4, seed=[5], label=["0", "1", "2", "3"]), info)
    sent = served(info)._options(run, 0)["label"]
    assert [filled(SamplingQuery(label=[each]), info).label for each in sent] == [0, 1, 2, 3]


def test_classes_are_named_as_the_server_knows_them() -> None:
    info = MODELS["guided"]
    assert (served(info).class_names, served(info).labels) == (None, len(CLASSES))
