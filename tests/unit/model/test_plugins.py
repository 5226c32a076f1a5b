"""Samplers and schedules of other packages: plugged in by an operator, named like ours, and blamed for their faults."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from difuso.model import NoiseSchedule, PlanError, make_plan, plug_in
from difuso.model.errors import CheckpointError, ForeignError
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.plans.settings import SamplerName

pytestmark = pytest.mark.usefixtures("plugin")
PLUGIN = "plugged"


def content(schedule: dict[str, object] | None = None, **defaults: object) -> dict[str, object]:
    network = {
        "type": "unet",
        "channels": 32,
        "channel_mult": [1],
        "num_res_blocks": 1,
        "attention_levels": [],
        "head_channels": 32,
    }
    schedule = {"type": "linear"} if schedule is None else schedule
    return {"format": 1, "network": network, "image_size": 8, "schedule": schedule, "defaults": defaults}


def test_a_plugged_in_sampler_plans_like_one_of_ours() -> None:
    schedule = NoiseSchedule.linear()
    for spacing in ("leading", "karras", "at:12.5,160,999"):
        steps = 3 if "at:" in spacing else 20
        mine = make_plan(schedule, sampler=f"{PLUGIN}:mine", steps=steps, spacing=spacing)
        ours = make_plan(schedule, sampler="ddim", steps=steps, spacing=spacing)
        assert mine.timesteps == ours.timesteps
        assert np.array_equal(mine.table, ours.table)
    noisy = make_plan(schedule, sampler=f"{PLUGIN}:noisy", steps=5, eta=2.0)
    assert noisy.stochastic
    with pytest.raises(PlanError, match=r"eta must lie between 0 and 2, got 3"):
        make_plan(schedule, sampler=f"{PLUGIN}:noisy", steps=5, eta=3.0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("picky", "steps must be at least 3"),
        (
            "failing",
            "sampler plugged:failing cannot plan this run: its code raised FileNotFoundError: … is missing",
        ),
        ("short", "sampler plugged:short makes 1 rows for 2 calls"),
        ("infinite", "cannot plan this run: a level is not on its chain, or a number is not finite"),
        ("beside", "cannot plan this run: a level is not on its chain"),
        ("pairs", "cannot plan this run: its code raised TypeError"),
        ("absent", "'plugged:absent' is not known: choose one of ddpm, ddim"),
    ],
)
def test_a_plan_that_a_plugin_cannot_make_is_refused_with_its_name(name: str, reason: str) -> None:
    with pytest.raises(PlanError) as caught:
        make_plan(NoiseSchedule.linear(), sampler=f"{PLUGIN}:{name}", steps=2)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_model_names_a_sampler_and_a_schedule_of_a_plugin() -> None:
    named = {"type": f"{PLUGIN}:levels", "num_train_timesteps": 100, "args": {"power": 0.5}}
    config = config_from_json(content(named, sampler=f"{PLUGIN}:noisy", steps=4, eta=0.5))
    schedule = config.schedule.build()
    times = np.linspace(0, 1, 100) ** 0.5
    np.testing.assert_allclose(np.log(schedule.sigmas**2), -9 + 18 * times, rtol=1e-9)
    assert len(config.plan(schedule)) == 4
    assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ({"type": f"{PLUGIN}:too_short"}, "plugged:too_short must return a NoiseSchedule of 1000 timesteps"),
        (
            {"type": f"{PLUGIN}:levels", "args": {"speed": 2}},
            "plugged:levels cannot be called: its code raised",
        ),
        ({"type": f"{PLUGIN}:none"}, "plugged:none cannot be found: its code raised AttributeError"),
        ({"type": "linear", "args": {}}, "a linear schedule has no args: leave out args"),
        (
            {"type": "antigravity:fly"},
            "not allowed here: if you trust it, set DIFUSO_PLUGINS=antigravity for all",
        ),
        (
            {"type": "sinus"},
            "type: Input should be 'linear', .* or yours, package.module:function, got 'sinus'",
        ),
    ],
)
def test_a_schedule_that_a_plugin_does_not_make_is_refused(schedule: dict[str, object], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        config_from_json(content(schedule))


def test_what_is_not_plugged_in_is_refused_and_never_imported() -> None:
    with pytest.raises(CheckpointError, match=r"antigravity:fly is code of another package.* set DIFUSO_PLUGINS=ant"):
        config_from_json(content(sampler="antigravity:fly"))
    with pytest.raises(ValidationError, match="which is not allowed here"):
        TypeAdapter(SamplerName).validate_python("antigravity:fly")
    assert "antigravity" not in sys.modules
    with pytest.raises(ForeignError, match=r"no\.such\.module cannot be imported: Python finds no module no"):
        plug_in(["no.such.module"])


def test_clients_see_the_names_of_all_samplers() -> None:
    names = TypeAdapter(SamplerName).json_schema()["enum"]
    assert names[:2] == ["ddpm", "ddim"]
    assert f"{PLUGIN}:mine" in names
    with pytest.raises(ValidationError, match=r"Input should be 'ddpm', .*'plugged:mine'"):
        TypeAdapter(SamplerName).validate_python("dpm")


def test_a_plugin_and_its_plans_need_no_torch() -> None:
    script = (
        "import sys; from difuso import NoiseSchedule, make_plan, plug_in; plug_in(['plugged']); "
        "print(len(make_plan(NoiseSchedule.linear(), sampler='plugged:mine', steps=7)), 'torch' in sys.modules)"
    )
    beside = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=beside, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "False"]
