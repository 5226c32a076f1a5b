"""A recipe is read whole or refused with the key that is wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from training.recipe import RecipeError, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_ships_can_be_built_and_carries_its_own_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_faces64_is_the_small_network_that_two_cores_can_train() -> None:
    network = load_recipe("faces64").model_config({}).build_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_760_588


def test_overrides_are_typed_and_reach_into_tables() -> None:
    changes = ["max_steps=7", "learning_rate=1", "bf16=false", "data.path=/some/where", "network.channel_mult=[1, 2]"]
    recipe = load_recipe("smoke", changes)
    assert (recipe.max_steps, recipe.learning_rate, recipe.bf16) == (7, 1.0, False)
    assert isinstance(recipe.learning_rate, float)
    assert recipe.data.path == "/some/where"
    assert recipe.network.channel_mult == (1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("max_step=7", "unknown key max_step: known are name, network, .*max_steps"),
        ("data.counts=7", r"unknown key data\.counts: known are data\.source, .*data\.count"),
        ("max_steps=many", "max_steps must be an int, got 'many'"),
        ("max_steps=true", "max_steps must be an int, got True"),
        ("max_steps=0", "max_steps must be greater than 0"),
        ("ema_decay=1.0", "ema_decay must be at least 0 and less than 1"),
        ("prediction=noise", "prediction must be one of eps, x0, v, got 'noise'"),
        ("data.source=web", r"data\.source must be one of faces, folder"),
        ("network.channel_mult=2", r"network\.channel_mult must be a list"),
        ("network=3", r"network is a table, not a value: set network\.KEY"),
        ("image_size.width=3", "image_size is a value, not a table"),
        ("defaults.sampler=nosuch", "unknown sampler 'nosuch'"),
        ("image_size=15", "image_size must be a multiple of 2"),
        ("channels=1", "channels must be 1 or 3 and equal the network's in_channels"),
        ("max_steps", "--set takes KEY=VALUE"),
    ],
)
def test_a_wrong_override_names_the_key_and_what_it_may_be(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("smoke", [change])


def test_an_unknown_recipe_names_those_that_ship() -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe 'nosuch': give one of faces64, smoke, or a \.toml file"):
        load_recipe("nosuch")


def test_a_file_is_a_recipe_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nbatch_size = 4\n[network]\nchannels = 32\n', encoding="utf-8")
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.batch_size, recipe.network.channels) == ("mine", 4, 32)
    path.write_text("batch_size = 4\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"incomplete.*name"):
        load_recipe(str(path))
    path.write_text("batch_size 4\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(str(path))


def test_a_run_may_be_made_longer_but_not_be_given_another_network() -> None:
    recipe = load_recipe("smoke")
    earlier = json.loads(json.dumps(dataclasses.asdict(recipe)))
    load_recipe("smoke", ["max_steps=9", "learning_rate=0.1"]).check_continues(earlier)
    for change, key in (("network.channels=64", "network"), ("data.count=7", "data"), ("seed=1", "seed")):
        with pytest.raises(RecipeError, match=f"another {key}"):
            load_recipe("smoke", [change]).check_continues(earlier)
