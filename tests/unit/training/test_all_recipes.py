"""The script that trains whatever ships names recipes that exist, each after those whose models it begins from."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from difuso.training import recipe_names
from difuso.training.recipe_reading import load_recipe

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
RUN = re.compile(r"var/runs/([^/]+)/model")


def test_every_model_that_ships_is_trained_after_those_that_it_begins_from(tmp_path: Path) -> None:
    stand_in = tmp_path / "difuso"
    stand_in.write_text('#!/bin/sh\necho "$@" >> calls\n')
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([CHECKPOINTS / "train.sh", "--set", "seed=7"], cwd=tmp_path, env=environment, check=True)

    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    trained: set[str] = set()
    for what, name, *arguments in calls:
        if what != "train":
            assert what == "evaluate"
            assert RUN.match(f"{arguments[arguments.index('--models-dir') + 1]}/model")[1] in trained  # type: ignore[index]
            continue
        assert name in recipe_names()
        changes = [value for option, value in zip(arguments[::2], arguments[1::2], strict=True) if option == "--set"]
        assert changes[0] == "seed=7"
        own = load_recipe(name) if name != "faces64-live" else None  # which needs its teacher to be read
        begins = " ".join([*changes, *([own.init, own.guides] if own else [])])
        assert set(RUN.findall(begins)) <= trained, name
        trained.add(name)

    shipped = [json.loads(path.read_text())["training"] for path in CHECKPOINTS.glob("*/config.json")]
    recipes = [part["recipe"]["name"] for each in shipped for part in (each, each.get("classifier")) if part]
    assert set(recipes) <= trained
