"""Links, files, commands and tests that the pages name are there."""

from __future__ import annotations

import re
import shlex
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from difuso.cli import app

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for pattern in ("*.md", "docs/*.md", "checkpoints/*/*.md", "benchmarks/**/*.md")
    for path in sorted(ROOT.glob(pattern))
}


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings)
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page].read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES)
def test_files(page: str) -> None:
    """The files of ours that a page names by their path."""
    text = PAGES[page].read_text("utf-8")
    named = re.findall(r"`((?:app|jobs|worker|model|training|evaluation|difuso|tests|docker)/[\w/.-]+)`", text)
    assert [path for path in named if "NAME" not in path and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands(page: str) -> None:
    """The commands, options and values of lines that a reader may type."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    text = PAGES[page].read_text("utf-8").replace("\\\n", "")
    assert {*re.findall(r"`make ([a-z-]+)", text)} <= {*targets}
    for line in re.findall(r"^    (?:\$ )?((?:make|python|difuso) [a-z-].*)$", text, re.MULTILINE):
        program, *words = shlex.split(re.split(r" \|| \d?>", line)[0], comments=True)
        if program == "make":
            assert words[0] in targets, line
        elif program == "python":
            assert find_spec(words[1]), line
        else:
            command = typer.main.get_command(app)
            while hasattr(command, "commands"):  # a group
                assert words[0] in command.commands, line
                command = command.commands[words.pop(0)]
            command.make_context(line, words)  # refuses unknown options and values


def test_tests() -> None:
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page, path in PAGES.items():
        for name in re.findall(r"`(test_\w+)`", path.read_text("utf-8")):
            assert f"def {name}(" in tests, (page, name)
