"""What earlier versions wrote is read and written in the same way; each folder is named after the commit that wrote it.

The jobs are those of tiny models of `tests.small_models`, of every kind, in their manifests and with one of their PNGs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs.contract import Job, Manifest
from jobs.image_recipe import job_of, recipe
from model.folders.config_json import config_from_json, config_to_json
from model.png import PNG_KEY

WRITTEN = sorted((Path(__file__).parents[2] / "fixtures" / "written").iterdir())
MANIFESTS = [(folder, case) for folder in WRITTEN for case in json.loads((folder / "manifests.json").read_text())]
CONFIGS = [(folder, name) for folder in WRITTEN for name in json.loads((folder / "configs.json").read_text())]


def content_of(folder: Path, file: str, name: str) -> Any:
    return json.loads((folder / file).read_text())[name]


def text_of(folder: Path, case: str) -> str:
    with Image.open(folder / f"{case}.png") as image:
        return str(image.info[PNG_KEY])


@pytest.mark.parametrize(("folder", "case"), MANIFESTS)
def test_a_manifest_and_its_job(folder: Path, case: str) -> None:
    content = content_of(folder, "manifests.json", case)
    manifest = Manifest.model_validate(content)
    assert manifest.model_dump(mode="json") == content
    assert Job.decode(content["job"]) == manifest.job


@pytest.mark.parametrize(("folder", "case"), MANIFESTS)
def test_a_picture_tells_what_it_told_to_the_byte(folder: Path, case: str) -> None:
    manifest = Manifest.model_validate(content_of(folder, "manifests.json", case))
    told = json.loads(text_of(folder, case))
    facts = recipe(
        manifest.job,
        0,
        model=manifest.job.model,
        model_sha256=manifest.model_sha256,
        compiled=manifest.compiled,
        timesteps=manifest.timesteps,
        upscaler_sha256=told.get("upscaler_sha256"),
    )
    assert json.dumps(facts, separators=(",", ":")) == text_of(folder, case)


@pytest.mark.parametrize(("folder", "case"), MANIFESTS)
def test_a_picture_names_the_job_that_makes_it_again(folder: Path, case: str) -> None:
    job = Manifest.model_validate(content_of(folder, "manifests.json", case)).job
    again = job_of(json.loads(text_of(folder, case)))
    assert (again.model, again.task) == (job.model, job.task)
    assert again.params == job.params.model_copy(update={"n": 1})


@pytest.mark.parametrize(("folder", "name"), CONFIGS)
def test_a_config(folder: Path, name: str) -> None:
    content = content_of(folder, "configs.json", name)
    assert json.loads(json.dumps(config_to_json(config_from_json(content)))) == content
