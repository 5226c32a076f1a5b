"""The table "Their sampler, your config" of docs/own-network.md: its wrappers and configs, as they stand there.

Each row draws what the project's own sampler draws with the project's own network, from the same noise.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import Checkpoint, networks_of, plug_in, sample
from difuso.model.folders.config import ScheduleConfig
from difuso.model.folders.config_json import config_from_json
from difuso.model.networks.build import build_network
from difuso.model.noise import draw_noise, image_generator
from tests import guests

diffusers = pytest.importorskip("diffusers")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::FutureWarning:diffusers")]

PAGE = (Path(__file__).parents[3] / "docs" / "own-network.md").read_text("utf-8")
ROWS = re.findall(r"^\| (.+) \| `(\w+)` \| `(\"schedule\".+)` \|$", PAGE, re.MULTILINE)
SEEDS, SHAPE, LABEL, SCALE = [7, 8], (3, 8, 8), 1, 3.0
BLOCKS = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "mid_block_type": "UNetMidBlock2D"}
UNET = {**BLOCKS, "sample_size": 8, "block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4}
DIT = {"num_attention_heads": 2, "attention_head_dim": 4, "in_channels": 3, "num_layers": 1, "sample_size": 8}
ARGS: dict[str, dict[str, Any]] = {
    "Lucidrains": {"dim": 8, "num_classes": 4},
    "Rectified": {"dim": 8},
    "Matching": {"dim": [3, 8, 8], "num_channels": 8, "num_res_blocks": 1},
    "ZeroToOne": {"dim": [3, 8, 8], "num_channels": 8, "num_res_blocks": 1},
    "Karras": {"c_in": 3, "feats_in": 8},
    "Monai": {"spatial_dims": 2, "in_channels": 3, "out_channels": 3},
    "Conditional": {**UNET, "in_channels": 3, "out_channels": 3, "num_class_embeds": 5},
    "Transformer": {**DIT, "num_embeds_ada_norm": 4},
    "Segmenter": {"encoder_name": "resnet18", "encoder_weights": None, "in_channels": 4, "classes": 3},
}
OF_TEXTS = {"mid_block_type": "UNetMidBlock2DCrossAttn", "cross_attention_dim": 768, "num_class_embeds": None}
TEXT = torch.randn(5, 768, generator=torch.Generator().manual_seed(1))
WITH_CLASSES = ("Lucidrains", "Conditional", "Transformer")


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: str) -> Iterator[None]:
    """The page's programs as modules, and the projects that they import."""
    blocks = [dedent(block) for block in re.findall(r"(?:^    .*\n|^\n)+", PAGE, re.MULTILINE)]
    for name, mark in {"mynets": "class Lucidrains", "myplan": "def _midpoint"}.items():
        (tmp_path / f"{name}.py").write_text(next(block for block in blocks if mark in block))
    guests.install(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    plug_in(["myplan"])
    yield
    for name in ("mynets", "myplan"):
        sys.modules.pop(name, None)


def theirs(name: str, row: str, call: Callable[..., Any], x: Tensor, noise: Callable[[], Tensor]) -> Tensor:
    """Draws by the call of the project's network."""
    match name:
        case "Lucidrains":
            return guests.lucidrains_ddim(call, x, noise, label=LABEL, scale=SCALE)
        case "Rectified":
            return guests.odeint(call, x, [i / 15 for i in range(16)], middle=True)
        case "Matching":
            return guests.odeint(lambda y, t: call(t, y), x, [i / 100 for i in range(101)], middle=False)
        case "ZeroToOne":
            return 2 * guests.odeint(lambda y, t: call(t, y), x, [i / 100 for i in range(101)], middle=False) - 1
        case "Karras":
            return guests.sample_dpmpp_2m(call, x * (1 + 80**2) ** 0.5)
        case "Monai" if "DDPM" in row:
            return guests.monai_ddpm(call, x, noise)
        case "Monai":
            evenly = torch.linspace(999, 0, 50).round().long().tolist()
            return guests.monai_ddim(call, x, evenly if "1.6" in row else [*range(980, -1, -20)])
        case "Conditional" if "texts" in row:
            padded = torch.cat([TEXT, torch.zeros(72, 768)]).double().expand(len(x), -1, -1)
            there = (torch.arange(77) < 5).expand(len(x), -1)

            def network(x: Tensor, t: Tensor, y: Tensor) -> Any:
                given = (y == LABEL)[:, None]
                return call(x, t, padded * given[..., None], encoder_attention_mask=there & given).sample

            return by_diffusers(network, x)
        case "Conditional":
            return by_diffusers(lambda x, t, y: call(x, t, encoder_hidden_states=None, class_labels=y).sample, x)
        case "Transformer":
            return by_diffusers(lambda x, t, y: call(x, timestep=t, class_labels=y).sample, x, clip_sample=False)
    plane = torch.ones(len(x), 1, 8, 8, dtype=x.dtype)
    return by_diffusers(lambda x, t, y: call(torch.cat([x, plane * t[:, None, None, None] / 1000], dim=1)), x)


def by_diffusers(network: Callable[..., Tensor], x: Tensor, **scheduler: Any) -> Tensor:
    """DDIMScheduler with 50 steps, guided as DiTPipeline does."""
    steps = diffusers.DDIMScheduler(**scheduler)
    steps.alphas_cumprod, steps.final_alpha_cumprod = guests.linear_abar(), torch.tensor(1.0)
    steps.set_timesteps(50)
    for t in steps.timesteps:
        times, labels = t.expand(len(x)), torch.full((len(x),), LABEL)
        given, null = (network(x, times, each) for each in (labels, torch.full_like(labels, 4)))
        x = steps.step(null + SCALE * (given - null), t, x).prev_sample
    return x


def in_float64(network: Any, args: tuple[Any, ...], inputs: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    return args, {name: each.double() if each.is_floating_point() else each for name, each in inputs.items()}


@pytest.mark.parametrize(("row", "name", "keys"), ROWS, ids=[f"{name}{i}" for i, (_, name, _) in enumerate(ROWS)])
def test_a_config_draws_what_their_sampler_draws(row: str, name: str, keys: str) -> None:
    of_texts = "texts" in row
    args = {**ARGS[name], **(OF_TEXTS if of_texts else {})}
    content = {"format": 1, "image_size": 8, "network": {"type": f"mynets:{name}", "args": args}}
    named = name in WITH_CLASSES and not of_texts
    classes = {"classes": ["a", "b", "c", "d"]} if named else {}
    config = config_from_json({**content, **classes, **json.loads(f"{{{keys}}}")})
    torch.manual_seed(0)
    model = Checkpoint("theirs", config, build_network(config.network).double().eval(), config.schedule.build(), "")
    model.network.register_forward_pre_hook(in_float64, with_kwargs=True)
    plan = config.plan(model.schedule, guidance_scale=SCALE if named or of_texts else None)
    networks = networks_of(model, LABEL if named else None, {"text": TEXT} if of_texts else {})
    ours = sample(plan, shape=SHAPE, seeds=SEEDS, dtype=torch.float64, **networks)
    own: Any = type(model.network).__mro__[3]  # the project's class, beyond our guard and the wrapper
    call = partial(own.forward, model.network)
    generators = [image_generator(seed) for seed in SEEDS]

    def noise() -> Tensor:
        return draw_noise(generators, SHAPE).double()

    with torch.inference_mode():
        found = theirs(name, row, call, noise(), noise)
    assert float((ours - found).abs().max()) < 1e-5
    assert float(found.std()) > 0.05


def test_every_wrapper_of_the_page_is_in_the_table_and_its_schedule_has_its_arguments() -> None:
    sigmas = ScheduleConfig("myplan:even", args={"most": 160}).build().sigmas
    assert np.allclose(sigmas[[0, -1]], [1 / 160, 160])
    assert {name for _, name, _ in ROWS} == {*re.findall(r"^    class (\w+)\(", PAGE, re.MULTILINE)} == {*ARGS}
