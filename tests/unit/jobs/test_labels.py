"""The words for a model's conditions in other languages, which lie beside its config."""

import json
import shutil
from pathlib import Path

import pytest

from difuso.jobs.catalog import read_catalog
from difuso.model.conditions import Choice
from difuso.model.folders.labels import LABELS

SHIPPED = Path(__file__).parents[3] / "checkpoints"


def test_every_choice_of_the_models_that_ship_has_a_spanish_word() -> None:
    models = read_catalog(SHIPPED).models
    choices = [
        (model.name, name, each)
        for model in models.values()
        for name, each in model.config.declared.items()
        if isinstance(each, Choice)
    ]
    assert len(choices) >= 12
    for model, name, choice in choices:
        words = models[model].labels["es"][name]
        assert words.name
        assert words.values.keys() == set(choice.values), (model, name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"es": {"label": {"values": {"boots": "botas"}}}}', "labels.es.label.values.boots is not a value"),
        ('{"es": {"skin": {"name": "piel"}}}', "labels.es.skin is not a condition: known are label"),
        ('{"Spanish!": {}}', "labels.Spanish!.[key]: String should match pattern"),
        ('{"es": {"label": {"name": 3}}}', "labels.es.label.name: Input should be a valid string"),
        ("{" * 5000, "shown without its labels"),
    ],
)
def test_a_file_that_cannot_be_used_is_left_out_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, reason: str
) -> None:
    shutil.copytree(SHIPPED / "fashion32", tmp_path / "fashion32")
    before = read_catalog(tmp_path).models["fashion32"]
    (tmp_path / "fashion32" / LABELS).write_text(content)
    after = read_catalog(tmp_path).models["fashion32"]
    assert after.labels == {}
    assert after.version == before.version, "words are no part of what is drawn"
    assert reason in caplog.text
    (tmp_path / "fashion32" / LABELS).write_text(json.dumps({"es-MX": {"label": {"values": {"pullover": "suéter"}}}}))
    assert read_catalog(tmp_path).models["fashion32"].labels["es-MX"]["label"].values == {"pullover": "suéter"}
