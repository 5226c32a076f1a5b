"""What is sent to a server is what was settled before, whatever the server would fill in."""

from __future__ import annotations

from dataclasses import replace

from difuso.app.routers.models import ModelView
from difuso.drawing.remote_drawing import ServedModel, ServedView
from difuso.jobs.catalog import Catalog, ModelInfo
from difuso.jobs.defaults import fill_in
from difuso.jobs.params import SamplingParams
from difuso.jobs.queries import SamplingQuery
from difuso.model.folders.config import ModelConfig
from difuso.model.networks.configs import UNetConfig
from tests.small_models import CLASSES, CLASSIFIER, NETWORK

INFO = ModelInfo(
    "guided", ModelConfig(UNetConfig(**NETWORK), image_size=8, prediction="v", classifier=CLASSIFIER), 0, "ab" * 32
)


def filled(query: SamplingQuery, model: ModelInfo) -> SamplingParams:
    return fill_in(query, model).params


def served(info: ModelInfo, *others: ModelInfo, **shares: float) -> ServedModel:
    catalog = Catalog({info.name: (info, *others)}, {}, shares={info.name: shares} if shares else {})
    facts = ModelView.of(info.name, catalog, [], {}).model_dump(mode="json", exclude_none=True)
    return ServedModel("http://nowhere", ServedView.model_validate(facts))


def test_keys_differ_where_jobs_differ() -> None:
    model = served(INFO)
    run = filled(SamplingQuery(n=3, seed=[5]), INFO)
    changes = ({"seed": 6}, {"n": 2}, {"steps": 4}, {"label": 1}, {"label": (1, 1, 0)}, {"seed": (5, 6, 7)})
    others = [run.model_copy(update=change) for change in changes]
    keys = [model._options(each, 0)["idempotency_key"] for each in (run, *others)]
    keys.append(model._options(run, 1)["idempotency_key"])
    assert len(set(keys)) == len(changes) + 2
    assert served(INFO)._options(run, 0) == model._options(run, 0)


def test_all_images_are_of_one_version_though_others_get_a_share_of_the_requests() -> None:
    run, other = filled(SamplingQuery(seed=[5]), INFO), replace(INFO, version="cd" * 32)
    assert "version" not in served(INFO, other)._options(run, 0), "so that it waits for workers"
    shared = served(INFO, other, **{INFO.version: 90, other.version: 10})._options(run, 0)
    assert shared["version"] == INFO.version


def test_classes_that_share_a_name_are_distinguished() -> None:
    """ImageNet has two classes "crane", and the name is that of the first."""
    classes = ("tench", "crane", "dog", "crane")
    config = ModelConfig(UNetConfig(num_classes=4, **NETWORK), image_size=8, classes=classes)
    info = ModelInfo("birds", config, 0, "ab" * 32)
    run = filled(SamplingQuery(n=4, seed=[5], label=["0", "1", "2", "3"]), info)
    sent = served(info)._options(run, 0)["label"]
    assert [filled(SamplingQuery(label=[each]), info).label for each in sent] == [0, 1, 2, 3]


def test_classes_are_named_as_the_server_knows_them() -> None:
    info = INFO
    assert (served(info).class_names, served(info).labels) == (None, len(CLASSES))
