"""`difuso init` writes one of each that a recipe may name, a recipe and a test, which work as they are."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.model import plug_in
from difuso.model.folders.config import ScheduleConfig
from difuso.model.networks.build import build_network
from difuso.training.data.source_images import open_source
from difuso.training.recipe_reading import load_recipe
from tests.serving import ENVIRONMENT

NAME = "beginning"


def init(name: str) -> str:
    result = CliRunner().invoke(cli.app, ["init", name])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result.output


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    for name in (NAME, f"{NAME}_plan"):
        sys.modules.pop(name, None)


def test_the_recipe_finds_its_network_its_images_and_its_plan(monkeypatch: pytest.MonkeyPatch, plugin: str) -> None:
    said = init(NAME)
    assert f"cd {NAME}; export PYTHONPATH=. DIFUSO_NETWORKS={NAME} DIFUSO_PLUGINS={NAME}_plan\n" in said
    monkeypatch.syspath_prepend(NAME)
    plug_in([f"{NAME}_plan"])
    recipe = load_recipe(f"{NAME}/{NAME}.toml", networks=[NAME])
    x, t, vector = torch.randn(2, *recipe.shape), torch.tensor([0, 999]), torch.randn(2, 2)
    assert build_network(recipe.network)(x, t, vector=vector).shape == x.shape
    items = [item for item, _ in zip(open_source(recipe.data, recipe.shape).items, range(50), strict=False)]
    assert all(item.image is not None and item.image.shape == recipe.shape.hwc for item in items)
    radii = [item.values["radius"] for item in items]
    assert 2 <= min(radii) < 3
    assert 5 < max(radii) <= 6
    plans = [
        config.plan(config.schedule.build(), sampler=sampler, spacing="trailing", steps=15)
        for config in (recipe.model_config({}), replace(recipe.model_config({}), schedule=ScheduleConfig("cosine")))
        for sampler in (f"{NAME}_plan:mine", "dpmpp")
    ]
    assert all(np.allclose(plan.table, plans[-1].table) for plan in plans)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("My-Model", "NAME is that of a Python module: small letters, digits and _, a letter first, not 'My-Model'"),
        ("../up", "NAME is that of a Python module"),
        ("for", "NAME is that of a Python module"),
        ("torch", "Python has a module torch already: choose another name"),
        ("there", "there exists already: choose another name, or delete it"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused(name: str, reason: str) -> None:
    Path("there").mkdir()
    with pytest.raises(UserError) as error:
        init(name)
    assert str(error.value).startswith(reason)
    assert os.listdir() == ["there"]


@pytest.mark.slow
def test_its_test_is_found_below_a_project_that_has_tests_of_its_own() -> None:
    """As in a clone of difuso, whose settings of pytest would take the folder for the module."""
    Path("pyproject.toml").write_text(
        '[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = ["--import-mode=importlib"]\n'
    )
    init(NAME)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only"]
    environment = {**ENVIRONMENT, "DIFUSO_NETWORKS": NAME, "DIFUSO_PLUGINS": f"{NAME}_plan"}
    found = subprocess.run(command, cwd=NAME, env=environment, capture_output=True, text=True, timeout=50)
    assert (found.returncode, "3 tests collected" in found.stdout) == (0, True), found.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_is_tested_trained_checked_and_drawn_as_it_says() -> None:
    """Each command as its user gives it, but with fewer steps."""
    init(NAME)
    environment = ENVIRONMENT | {"PYTHONPATH": ".", "DIFUSO_DEVICE": "cpu"}
    environment |= {"DIFUSO_NETWORKS": NAME, "DIFUSO_PLUGINS": f"{NAME}_plan"}

    def run(*words: str) -> str:
        result = subprocess.run(
            [sys.executable, "-P", "-m", *words], cwd=NAME, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    assert "3 passed" in run("pytest", "-q", "-p", "no:cacheprovider")
    few = ("--set", "data.count=64", "--set", "max_steps=4", "--set", "decay_steps=0", "--set", "sheet_every=4")
    run("difuso", "train", f"{NAME}.toml", *few)
    models = ("--models-dir", f"var/runs/{NAME}")
    assert "fails" not in run("difuso", "models", *models, "--check", "model")
    run("difuso", "sample", *models, "--steps", "2", "--condition", "radius:3", "--out", "drawn")
    assert len(list(Path(NAME, "drawn").glob("*.png"))) == 1
