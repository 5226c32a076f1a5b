"""The examples of the public classes and functions, and of the README, run and print what they say."""

from __future__ import annotations

import doctest
import inspect
import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import difuso
import difuso.client
import difuso.model

ROOT = Path(__file__).parents[2]
PUBLIC = [getattr(package, name) for package in (difuso.model, difuso.client) for name in package.__all__]
MODULES = sorted({each.__module__ for each in PUBLIC if inspect.isclass(each) or inspect.isfunction(each)})


@pytest.mark.parametrize("package", [difuso, difuso.model])
def test_the_public_names_are_listed_and_there(package: Any) -> None:
    assert dir(package) == sorted(package.__all__)
    assert all(getattr(package, name) for name in package.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert not doctest.testmod(sys.modules[name], optionflags=doctest.ELLIPSIS).failed


def test_the_readme_draws_images_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    programs = [dedent(block) for block in blocks if "from difuso import load_checkpoint" in block]
    assert len(programs) == 2
    for program in programs:
        found: dict[str, Any] = {}
        exec(re.sub(r"steps=\d+", "steps=2", program), found)  # more steps would prove no more
        assert len(found["images"]) == 2
