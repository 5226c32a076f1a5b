"""Additions: a network is a file, its config and a line; a source of images or a loss is a file and a line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ENVIRONMENT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

CONFIG = """@dataclass(frozen=True)
class PlainNetConfig(NetworkConfig):
    width: Channels = 8

    @property
    def size_multiple(self) -> int:
        return 1


"""
TYPES, LISTED = "# The configs of networks that", "NETWORKS: dict[str, type[NetworkConfig]] = {\n"
NETWORK = """from torch import nn


class PlainNet(nn.Conv2d):
    def __init__(self, config):
        super().__init__(config.in_channels, config.out_channels, config.width + 1, padding="same")
"""

SOURCE = """import numpy as np

from .source_images import Source, SourceImage


def open_greys(data, shape):
    return Source([SourceImage("grey", np.full(shape.hwc, 128, np.uint8))])
"""
LOSS = """def objective_of(recipe, schedule):
    return "absolute"
"""
CHOICES = {
    "choices.py": [
        ("SOURCES = {\n", '    "greys": SourceChoice("greys"),\n'),
        ("LOSSES = {\n", '    "absolute": LossChoice("absolute", weighted=True),\n'),
    ],
    "objective/weightings.py": [
        ("WEIGHTINGS = {\n", '    "halved": Weighting(lambda schedule, gamma: 0.5 * np.ones_like(schedule.betas)),\n')
    ],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of a difuso that somebody has added to."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "difuso", tree / "difuso", ignore=shutil.ignore_patterns("__pycache__"))
    configs = tree / "difuso" / "model" / "networks" / "configs.py"
    text = configs.read_text("utf-8").replace(TYPES, CONFIG + TYPES)
    configs.write_text(text.replace(LISTED, LISTED + '    "plain_net": PlainNetConfig,\n'), "utf-8")
    configs.with_name("plain_net.py").write_text(NETWORK, "utf-8")
    for name, lines in CHOICES.items():
        text = (tree / "difuso" / "training" / name).read_text("utf-8")
        for head, line in lines:
            text = text.replace(head, head + line)
        (tree / "difuso" / "training" / name).write_text(text, "utf-8")
    (tree / "difuso" / "training" / "data" / "greys.py").write_text(SOURCE, "utf-8")
    (tree / "difuso" / "training" / "objective" / "absolute.py").write_text(LOSS, "utf-8")
    return tree


def run(tree: Path, code: str) -> str:
    environment = ENVIRONMENT | {"PYTHONPATH": str(tree)}
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_a_network_a_source_a_loss_and_a_weighting_are_found(tree: Path) -> None:
    code = """
from difuso.model import CheckpointError
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.networks.build import build_network
from difuso.training.recipe_reading import load_recipe

content = {"format": 1, "network": {"type": "plain_net", "width": 4}, "schedule": {}}
config = config_from_json(content)
print(type(build_network(config.network)).__name__, config_from_json(config_to_json(config)) == config)
try:
    config_from_json({**content, "network": {"type": "plain_net", "width": 0}})
except CheckpointError as error:
    print(error)
print(load_recipe("smoke", ["network={type='plain_net'}"]).as_json["network"])

from difuso.training.data.source_images import open_source
from difuso.training.objective.objectives import objective_of
from difuso.training.objective.weightings import weights

recipe = load_recipe("smoke", ["data.source=greys", "data.path=x", "loss=absolute", "weighting=halved"])
print([item.name for item in open_source(recipe.data, recipe.shape).items])
schedule = recipe.schedule.build()
print(objective_of(recipe, schedule), set(weights(schedule, "eps", recipe.weighting).tolist()))
"""
    assert run(tree, code).splitlines() == [
        "PlainNet True",
        "config.json: network.width: Input should be greater than or equal to 1, got 0",
        "{'type': 'plain_net', 'in_channels': 3, 'out_channels': 3, 'width': 8}",
        "['grey']",
        "absolute {0.5}",
    ]


def test_a_recipe_is_checked_without_torch(tree: Path) -> None:
    imports = "import sys; from difuso.training.recipe_reading import load_recipe"
    assert run(tree, f"{imports}; load_recipe('faces64'); print('torch' in sys.modules)") == "False\n"
