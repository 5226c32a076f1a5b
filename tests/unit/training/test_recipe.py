"""A recipe is read whole or refused with the key that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from difuso.model.folders.config import SamplerDefaults
from difuso.model.formats.facts import RELEASED, GuidedFacts
from difuso.model.networks.configs import UNetConfig
from difuso.training import recipe_names
from difuso.training.errors import RecipeError
from difuso.training.recipe_reading import load_recipe

FEW = (
    *("loss=distillation", "init=t", "teacher_calls=2", "prediction=v"),
    *("defaults.sampler=ddim", "defaults.spacing=trailing", "defaults.steps=4"),
)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_can_be_built_and_carries_its_own_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_overrides_are_typed_and_reach_into_tables() -> None:
    changes = [
        "max_steps=7",
        "learning_rate=1",
        "precision=float32",
        "data.path=/some/where",
        "network.channel_mult=[1, 2]",
    ]
    recipe = load_recipe("smoke", changes)
    assert (recipe.max_steps, recipe.learning_rate, recipe.precision) == (7, 1.0, "float32")
    assert isinstance(recipe.learning_rate, float)
    assert recipe.data.path == "/some/where"
    assert isinstance(recipe.network, UNetConfig)
    assert recipe.network.channel_mult == (1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("max_step=7", "unknown key max_step: known are name, network, .*max_steps"),
        ("data.counts=7", r"unknown key data\.counts: known are data\.source, .*data\.count"),
        ("max_steps=many", "max_steps: .* integer, got 'many'"),
        ("prediction=noise", "prediction: .* 'eps', 'x0', 'v' or 'flow', got 'noise'"),
        ("data.source=web", r"data\.source: .* 'faces', 'folder', 'zip'"),
        (
            "data=/my/photos",
            "data must be a table, got '/my/photos': the images are named by data.source and data.path",
        ),
        ("conditions=skin", "conditions must be a table of tables"),
        ("image_size.width=3", "image_size is a value, not a table"),
        ("defaults.sampler=nosuch", "defaults.sampler: Input should be 'ddpm', 'ddim', "),
        ("image_size=15", "image_size must be a multiple of 2"),
        ("max_steps", "--set takes KEY=VALUE"),
        ("network.type=vit", "network.type must be one of unet, paper_unet, song_unet, .*, got 'vit'"),
        ("network.type=edm2_unet", "network.type must be one of unet, .*, got 'edm2_unet'"),
        ("loss=hybrid", "loss hybrid is there for a learned variance: set learned_range"),
        ("variance=learned_range", "loss simple cannot train variance learned_range"),
        ("gamma=5", "gamma belongs to weighting min_snr or p2 or sigmoid"),
        ("label_drop=0.1", "label_drop needs a network with num_classes"),
        ("network.num_classes=5", "the drawn faces have no classes"),
        ("data.source=folder", r"say where the images are: data\.path"),
    ],
)
def test_a_wrong_override_names_the_key_and_what_it_may_be(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("smoke", [change])


def test_an_unknown_recipe_names_those_that_ship() -> None:
    with pytest.raises(
        RecipeError, match=r"there is no recipe 'nosuch': give one of .*faces64, .*smoke, or a \.toml file"
    ):
        load_recipe("nosuch")


def test_a_file_is_a_recipe_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nbatch_size = 4\n[network]\nchannels = 32\n', encoding="utf-8")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.batch_size, recipe.network) == ("mine", 4, UNetConfig(channels=32))
    path.write_text("batch_size = 4\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="name is missing"):
        load_recipe(str(path))
    path.write_text("batch_size 4\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(str(path))
    path.write_text('name = "mía"\n', encoding="latin-1")
    with pytest.raises(RecipeError, match="not TOML: 'utf-8' codec"):
        load_recipe(str(path))


def test_the_plans_of_a_recipe_are_those_of_its_model() -> None:
    changes = ["plans.fast.sampler=unipc", "plans.fast.steps=4", "plans.fast.spacing=exponential"]
    assert load_recipe("smoke", changes).model_config({}).plans == {"fast": SamplerDefaults("unipc", 4, "exponential")}


def test_a_run_may_be_made_longer_but_not_be_given_another_network() -> None:
    recipe = load_recipe("smoke")
    earlier = json.loads(json.dumps(recipe.as_json))
    load_recipe("smoke", ["max_steps=9", "learning_rate=0.1"]).check_continues(earlier)
    for change, key in (
        *(("network.channels=64", "network"), ("data.count=7", "data"), ("seed=1", "seed")),
        *(("loss=vlb", "loss"), ("weighting=p2", "weighting")),
    ):
        with pytest.raises(RecipeError, match=f"another {key}"):
            load_recipe("smoke", [change]).check_continues(earlier)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("loss=vlb", "weighting=p2"), "loss vlb has its own weights: it cannot have p2"),
        (("loss=distillation",), "needs a teacher: set init"),
        (("loss=distillation", "init=t", "weighting=p2"), "loss distillation has its own weights"),
        (("loss=distillation", "init=t", "timesteps=stratified"), "leave timesteps out"),
        (("loss=distillation", "init=t", "teacher_calls=2", "prediction=eps"), "must predict v or x0"),
        ((*FEW, "defaults.sampler=ddpm"), "set defaults.sampler to ddim"),
        ((*FEW, "defaults.spacing=karras"), "defaults.spacing to trailing"),
        ((*FEW, "defaults.steps=600"), "1200 steps: T must be as many"),
        ((*FEW, "network.out_channels=6"), "trains no variance: set network.out_channels to 3"),
        (("guidance_scale=2.0",), "guidance_scale is of a teacher: set loss to distillation"),
        (("teacher_calls=2",), "set loss to distillation"),
        (("data.source=npz", "data.path=x", "network.num_classes=5"), "can be asked without a class: set label_drop"),
        (
            ("data.source=npz", "data.path=x", "network.num_classes=5", "network.null_class=false", "label_drop=0.1"),
            "label_drop needs network.null_class = true",
        ),
        (
            ("channels=1", "network.in_channels=1", "network.out_channels=1"),
            "the drawn faces are coloured: channels must be 3",
        ),
        (("loss=hybrid", "variance=learned_range"), "the network needs out_channels 6"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("smoke", changes)


@pytest.mark.parametrize(
    ("name", "released", "heights"),
    [("imagenet64-adm", "adm-64", {32, 16, 8}), ("imagenet64-iddpm", "iddpm-imagenet64", {16, 8})],
)
def test_recipes_of_publications_agree_with_the_released_checkpoints(
    name: str, released: str, heights: set[int]
) -> None:
    recipe, facts = load_recipe(name), RELEASED[released]
    assert isinstance(facts, GuidedFacts)
    network = recipe.network
    assert isinstance(network, UNetConfig)
    assert recipe.schedule.type == facts.noise_schedule
    assert recipe.schedule.num_train_timesteps == facts.diffusion_steps
    assert network.timestep_scale == (1000 / facts.diffusion_steps if facts.rescale_timesteps else 1)
    assert {recipe.shape.height >> level for level in network.attention_levels} == heights
    assert network.heads == facts.num_heads
    assert network.dropout == (facts.dropout or 0)


def test_the_record_of_a_recipe_says_nothing_of_the_machine() -> None:
    recipe = load_recipe("smoke", ["init=/home/me/models/first", "data.path=/data/mine.zip"])
    record = recipe.record
    assert (record["init"], record["data"]["path"]) == ("first", "mine.zip")
    assert recipe.model_config({"steps": 3}).training == {"recipe": record, "steps": 3}
    assert recipe.init == "/home/me/models/first"
    assert load_recipe("smoke", ["init=checkpoints/first"]).record["init"] == "checkpoints/first"
