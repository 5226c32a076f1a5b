"""The server that most files use, and another one and a browser for the tests of the page."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from selenium import webdriver

from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from difuso.model.conditions import Choice, vector_size
from difuso.model.folders.config import SamplerDefaults, ScheduleConfig
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import DiTConfig, UNetConfig
from difuso.model.png import PNG_KEY
from difuso.model.shape import Shape
from tests.serving import ENVIRONMENT, Difuso, running
from tests.small_models import (
    CLASSES,
    CLASSIFIER,
    NETWORK,
    WEAKER,
    awake,
    checkpoint_of,
    checkpoint_of_shape,
    conditional_checkpoint,
)
from tests.studio import Studio

AXE = Path(__file__).parents[2] / ".venv" / "axe" / "axe_playwright_python" / "axe.min.js"

CARD = """# tiny

A network of **random** weights, with `seed` 0. See [Open Peeps](https://www.openpeeps.com/) and [ours](../here.md).

| | |
| --- | --- |
| data | none |

| | KID | precision |
| --- | --- | --- |
| **`ddim` 3 `trailing`, `eta=0.5`**, the default | 7.0 ± 0.6 | 0.5 |
| 10 calls | \u22120.2 | 0.6 |
| 500 other images | 0.8 | 0.7 |

    curl -X POST 'http://127.0.0.1:8000/generate' -o image.png

**Licence.** CC0 1.0 <img src=x>

![Loss](losses.png)
"""

# Of two stages, of which the second counts its steps anew, and with a line that a killed process left.
LOG = """{"step": 100, "loss": 1.0, "grad_norm": 2.5, "skipped": 0.0}
{"step": 200, "loss": 0.1, "grad_norm": 2.0, "skipped": 0.0}
{"step": 100, "loss": 0.01, "lr": 0.001}
{"step": 150, "lo
"""

SHAPES = {"wide": Shape(3, 16, 24), "four": Shape(4, 8, 12), "grey": Shape(1, 8, 12)}
SHAPES |= {"two": Shape(2, 8, 12), "five": Shape(5, 8, 12), "sixteen": Shape(16, 8, 12)}

# The machine may have no way out, and chromium's own requests would show as errors of the page.
QUIET = ("--headless=new", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="session")
def small_models(cascade_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a models folder with `tiny` and `tiny-up`, and with

    `guided`: `tiny` with a weaker network that guides it,
    `shapes`: three classes and a classifier, 8x8 RGB,
    `traits`: three classes and conditions of every type, 8x8 RGB,
    `examples`: glasses, and three examples of them, 8x8 RGB,
    `wide`, `four`, `grey`: 16x24 RGB, and 8x12 of four channels and of one,
    `two`, `five`, `sixteen`: 8x12 of so many channels,
    `flow`: a pixel transformer on a flow, 16x24 RGB.
    """
    folder = tmp_path_factory.mktemp("small") / "models"
    shutil.copytree(cascade_models_dir, folder)
    tiny = load_checkpoint(folder / "tiny")
    assert isinstance(tiny.config.network, UNetConfig)
    weaker = dataclasses.replace(tiny.config.network, channel_mult=(1,), attention_levels=())
    defaults = dataclasses.replace(tiny.config.defaults, guidance_scale=2.5)
    config = dataclasses.replace(tiny.config, weaker=weaker, defaults=defaults)
    save_checkpoint(folder / "guided", config, tiny.network, weaker=awake(build_network(weaker)))
    network = UNetConfig(num_classes=len(CLASSES), **NETWORK)
    made = checkpoint_of(network, classes=CLASSES, classifier=CLASSIFIER)
    save_checkpoint(folder / "shapes", made.config, made.network, classifier=made.classifier)
    made = conditional_checkpoint()
    save_checkpoint(folder / "traits", made.config, made.network)
    glasses = {"glasses": Choice(("none", "round", "square"), null=True)}
    filled = UNetConfig(vector_size=vector_size(glasses), **NETWORK)
    made = checkpoint_of(filled, conditions=glasses, examples={"glasses": ("none", "round", "square")})
    save_checkpoint(folder / "examples", made.config, made.network)
    for name, shape in SHAPES.items():
        made = checkpoint_of_shape(shape)
        save_checkpoint(folder / name, made.config, made.network)
    flow = {"schedule": ScheduleConfig("flow", shift=2.0), "defaults": SamplerDefaults("dpmpp", 4, "trailing")}
    made = checkpoint_of(DiTConfig(channels=32, depth=2, heads=2, patch=4, bottleneck=16), image_size=(16, 24), **flow)
    save_checkpoint(folder / "flow", made.config, made.network)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder where `difuso` keeps jobs."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def difuso(
    small_models: Path, store: Path, redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Difuso]:
    """Serves `small_models`, by default `tiny`, to all files that need nothing special; see tests/scheduling.py."""
    ours = {
        "DIFUSO_MODELS_DIR": str(small_models),
        "DIFUSO_DEFAULT_MODEL": "tiny",
        "DIFUSO_STORE_URL": str(store),
        "DIFUSO_SLOTS": "8",
    }
    with running(tmp_path_factory.mktemp("difuso"), ENVIRONMENT | ours) as difuso:
        yield difuso


@pytest.fixture(scope="session")
def api(difuso: Difuso) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=difuso.url, timeout=60) as client:
        yield client


def browser() -> webdriver.Chrome:
    """Returns an installed browser. Without one: skipped here, failed in CI."""
    program = shutil.which("chromedriver")
    if program is None:
        message = (
            "there is no chromedriver on the PATH: install Chromium and its driver, on Debian "
            "chromium-driver, to try the page in a browser"
        )
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    for argument in (*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(program))


@pytest.fixture(scope="session")
def driver() -> Iterator[webdriver.Chrome]:
    """The browser that the tests of the page share."""
    with browser() as driver:
        yield driver


@pytest.fixture
def second_driver() -> Iterator[webdriver.Chrome]:
    """The browser of somebody else."""
    with browser() as driver:
        yield driver


@pytest.fixture(scope="session")
def studio_server(cascade_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Difuso]:
    """Serves seven models: `tiny`, with a card, a sheet and a log; `tiny-up`, which enlarges its images; `wide` of
    16x24 pixels, which draws instead of something; `with-classes` of three classes, with a sheet; `with-guide`, which
    has a weaker network, and a log; `traits`, which needs some of its conditions; and `with-glasses`, which may have
    one, with a sheet that names its samples.
    """
    folder = tmp_path_factory.mktemp("page")
    models = folder / "models"
    shutil.copytree(cascade_models_dir, models)
    (models / "tiny" / "README.md").write_text(CARD)
    Image.new("RGB", (142, 142), "teal").save(models / "tiny" / "sheet.png")  # 8 x 8 images, with gaps of 2 pixels
    (models / "tiny" / "metrics.jsonl").write_text(LOG)
    made = checkpoint_of(UNetConfig(num_classes=len(CLASSES), **NETWORK), classes=CLASSES)
    save_checkpoint(models / "with-classes", made.config, made.network)
    Image.new("RGB", (82, 82), "teal").save(models / "with-classes" / "sheet.png")  # the same, and a margin
    guided = checkpoint_of(
        UNetConfig(**NETWORK),
        weaker=UNetConfig(**WEAKER),
        defaults=SamplerDefaults(steps=3, guidance_scale=2.5),
    )
    save_checkpoint(models / "with-guide", guided.config, guided.network, weaker=guided.weaker)
    (models / "with-guide" / "metrics.jsonl").write_text('{"step": 300, "loss": 0.5}\n{"step": 600, "loss": 0.25}\n')
    conditional = conditional_checkpoint()
    save_checkpoint(models / "traits", conditional.config, conditional.network)
    glasses = {"glasses": Choice(("none", "eye patch"), null=True)}
    dressed = checkpoint_of(UNetConfig(vector_size=vector_size(glasses), **NETWORK), conditions=glasses)
    save_checkpoint(models / "with-glasses", dressed.config, dressed.network)
    words = {"es": {"glasses": {"name": "gafas", "values": {"none": "ningunas", "eye patch": "parche"}}}}
    (models / "with-glasses" / "labels.json").write_text(json.dumps(words))
    worn = [{"conditions": {"glasses": value}} for value in glasses["glasses"].values] + [{}]
    text = PngInfo()
    text.add_itxt(PNG_KEY, json.dumps({"samples": [{"seed": seed} | worn[seed % 3] for seed in range(64)]}))
    Image.new("RGB", (82, 82), "teal").save(models / "with-glasses" / "sheet.png", pnginfo=text)
    wide = checkpoint_of_shape(Shape(3, 16, 24))
    named = dataclasses.replace(wide.config, instead_of="DPMSolverSDEScheduler: its noise is another")
    save_checkpoint(models / "wide", named, wide.network)
    with running(folder, ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(models)}) as difuso:
        yield difuso


@pytest.fixture
def studio(driver: webdriver.Chrome, studio_server: Difuso, request: pytest.FixtureRequest) -> Iterator[Studio]:
    """Yields the page of a first visit, on a desktop or as `at_both_widths` says. At the end the browser must have no
    complaints.
    """
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    studio = Studio(driver, studio_server.url, getattr(request, "param", "desktop"))
    driver.get("about:blank")  # the page of the test before asks its server, which may have ended
    studio.errors()
    studio.open()
    yield studio
    assert studio.errors() == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The program axe-core, which `make test` fetches."""
    if not AXE.exists():
        message = "there is no axe-core: run `make .venv/axe`, as `make test` does"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return AXE.read_text("utf-8")


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], str]:
    """Draws an image of one colour, in the size of the small models; returns its path."""

    def draw(colour: str) -> str:
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (16, 16), colour).save(path)
        return str(path)

    return draw
