"""What one addition costs: a sampler is a function and a line, a kind a file and a function, a setting a field."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.serving import ENVIRONMENT, Difuso, executed, running
from tests.studio import Studio
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

SAMPLER = '''

def naive(chain: NoiseSchedule, options: Options) -> list[Transition]:
    """x' = sqrt(abar') x0: no noise at all."""
    levels = reversed(range(chain.num_train_timesteps))
    return [Transition(i, a=0.0, b=float(chain.alphas_cumprod_prev[i]) ** 0.5) for i in levels]
'''
ENTRIES = "SAMPLERS: dict[str, Sampler] = {\n"

SETTING = """    churn: Annotated[
        float, Field(ge=0, le=1, exclude_if=lambda value: not value, description="more noise")
    ] = 0.0
"""
NEXT = "\n\n@dataclass(frozen=True)\nclass SamplerDefaults"
USE = ("Options(settings.eta,", "Options(settings.eta + settings.churn,")

KIND = '''"""Images from noise that is mirrored."""

from typing import Literal

from pydantic import Field

from ..defaults import fill_in
from .base import Kind, Prepared, Task
from ..queries import SamplingQuery


class MirrorQuery(SamplingQuery):
    axis: Literal["rows", "columns"] = Field(default="columns", description="the order that is reversed")


class Mirroring(Task):
    kind: Literal["mirror"] = "mirror"
    axis: Literal["rows", "columns"]


def prepare(query, model, images):
    return Prepared(fill_in(query, model).params, Mirroring(axis=query.axis))


KIND = Kind("mirror", "Make mirrored images", MirrorQuery, Mirroring, prepare)
'''
ROWS = "WORKER_KINDS = {\n"
BEGIN = """def _mirror(job, runner, images):
    generators = generators_of(job)
    noise = draw_noise(generators, runner.checkpoint.config.shape)
    mirrored = noise.flip({"rows": -2, "columns": -1}[job.task.axis])
    return JobStart(trajectories(runner, plan_of(job, runner), generators, mirrored))


"""


@pytest.fixture(scope="module")
def environment(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a difuso that somebody has added to."""
    tree = tmp_path_factory.mktemp("tree")
    folder = tree / "difuso"
    shutil.copytree(ROOT / "difuso", folder, ignore=shutil.ignore_patterns("__pycache__"))
    plans = "model/plans"
    for name, old, new in (
        (f"{plans}/samplers/__init__.py", ENTRIES, ENTRIES + '    "naive": Sampler(single_step.naive),\n'),
        (f"{plans}/settings.py", NEXT, SETTING + NEXT),
        (f"{plans}/plan.py", *USE),
        ("worker/kinds.py", ROWS, BEGIN + ROWS + '    "mirror": WorkerKind(_mirror),\n'),
    ):
        text = (folder / name).read_text("utf-8")
        assert text.count(old) == 1, name
        (folder / name).write_text(text.replace(old, new), "utf-8")
    with (folder / plans / "samplers" / "single_step.py").open("a") as file:
        file.write(SAMPLER)
    (folder / "jobs" / "kinds" / "mirror.py").write_text(KIND, "utf-8")
    return ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(models_dir), "PYTHONPATH": str(tree)}


@pytest.fixture(scope="module")
def difuso(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Difuso]:
    with running(tmp_path_factory.mktemp("additions"), environment, start=executed) as difuso:
        yield difuso


def run(environment: dict[str, str], *command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-P", *command], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


@pytest.mark.slow
def test_a_sampler_and_a_setting_are_found_in_plans_in_models_and_on_the_command_line(
    environment: dict[str, str],
) -> None:
    code = """
from difuso.model import *
from difuso.model.folders.config import SamplerDefaults
from difuso.model.folders.parsing import parse
print(len(make_plan(NoiseSchedule.linear(), sampler='naive', steps=3)), parse(SamplerDefaults, {'churn': 0.5}).churn)
try:
    parse(SamplerDefaults, {'churn': 2})
except ValueError as error:
    print(error)
"""
    assert run(environment, "-c", code) == "3 0.5\nchurn: Input should be less than or equal to 1, got 2\n"
    shown = run(environment | {"COLUMNS": "200"}, "-m", "difuso", "sample", "--help")
    assert "naive" in shown
    assert "--churn" in shown
    assert "More noise." in shown


@pytest.mark.slow
def test_a_sampler_is_found_over_http_and_on_the_page(difuso: Difuso, driver: webdriver.Chrome) -> None:
    answer = httpx.post(f"{difuso.url}/generate?sampler=naive&steps=2&seed=1", timeout=30)
    assert facts(answer)["sampler"] == "naive"
    parameters = httpx.get(f"{difuso.url}/openapi.json").json()["paths"]["/generate"]["post"]["parameters"]
    assert "naive" in json.dumps([each for each in parameters if each["name"] == "sampler"])
    driver.get(difuso.url)
    options = 'select[name="sampler"] option'
    wait_until(lambda: len(driver.find_elements(By.CSS_SELECTOR, options)) > 1, 10, "the samplers are there")
    assert "naive" in [option.get_property("value") for option in driver.find_elements(By.CSS_SELECTOR, options)]


@pytest.mark.slow
def test_a_setting_is_found_over_http(difuso: Difuso) -> None:
    """It reaches the sampler, and the picture and the job name it."""
    address = f"{difuso.url}/generate?sampler=ddim&steps=3&seed=1"
    answers = [httpx.post(f"{address}&{setting}=0.5", timeout=30) for setting in ("churn", "eta")]
    assert [(facts(answer).get("churn"), facts(answer)["eta"]) for answer in answers] == [(0.5, 0.0), (None, 0.5)]
    churned, noisy = (np.asarray(Image.open(io.BytesIO(answer.content))) for answer in answers)
    assert np.array_equal(churned, noisy)
    job = httpx.get(f"{difuso.url}/jobs/{answers[0].headers['x-job-id']}").json()
    assert job["params"]["churn"] == 0.5
    refused = httpx.post(f"{address}&churn=2", timeout=30)
    assert (refused.status_code, "churn" in refused.text) == (422, True)
    parameters = httpx.get(f"{difuso.url}/openapi.json").json()["paths"]["/generate"]["post"]["parameters"]
    assert {each["name"]: each.get("description") for each in parameters}["churn"] == "more noise"


@pytest.mark.slow
def test_a_kind_of_job_is_found_over_http_and_on_the_command_line(difuso: Difuso, environment: dict[str, str]) -> None:
    answers = [httpx.post(f"{difuso.url}/{kind}?steps=2&seed=1", timeout=30) for kind in ("mirror", "generate")]
    views = [httpx.get(f"{difuso.url}/jobs/{answer.headers['x-job-id']}").json() for answer in answers]
    assert [view.get("task") for view in views] == [{"kind": "mirror", "axis": "columns"}, None]
    assert facts(answers[0])["kind"] == "mirror"
    assert answers[0].content != answers[1].content
    assert "/mirror" in httpx.get(f"{difuso.url}/openapi.json").json()["paths"]
    assert "Make mirrored images" in run(environment | {"COLUMNS": "200"}, "-m", "difuso", "mirror", "--help")


MIRRORED = "article[aria-label*=mirror] a img"


@pytest.mark.slow
def test_a_kind_of_job_has_a_form_on_the_page(difuso: Difuso, driver: webdriver.Chrome) -> None:
    studio = Studio(driver, difuso.url, "desktop")
    studio.open()
    kinds = 'select[id="kind"] option[value="mirror"]'
    wait_until(lambda: bool(driver.find_elements(By.CSS_SELECTOR, kinds)), 10, "the kind is there")
    axis = driver.find_element(By.NAME, "axis")
    assert not axis.is_displayed()
    driver.find_element(By.CSS_SELECTOR, kinds).click()
    assert axis.is_displayed()
    assert "The order that is reversed" in driver.find_element(By.CSS_SELECTOR, 'fieldset[data-when="mirror"]').text
    Select(axis).select_by_visible_text("rows")
    studio.fill("steps", "2")
    driver.find_element(By.CSS_SELECTOR, "form button.main").click()

    def shown() -> list[object]:
        """The axis of each image; the gallery has those of earlier jobs, too."""
        sources = [str(image.get_property("src")) for image in driver.find_elements(By.CSS_SELECTOR, MIRRORED)]
        return [facts(httpx.get(source))["axis"] for source in sources]

    wait_until(lambda: "rows" in shown(), 30, "the images are there")


def facts(answer: httpx.Response) -> dict[str, object]:
    """What a PNG says about itself."""
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        output: dict[str, object] = json.loads(image.info["difuso"])
    return output
