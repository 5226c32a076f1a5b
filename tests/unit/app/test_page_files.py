"""The files of the page: short modules, texts in both languages, and nothing of others but one module."""

from __future__ import annotations

import json
import re
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from difuso.app.routers.page import page_with_preloads

STATIC = Path(__file__).parents[3] / "app" / "static"
PARTS = ["learn", "modelcard", "train"]  # folders with texts of their own
OWN = (path for part in (*PARTS, "editing") for path in STATIC.glob(f"{part}/*.js") if path.stem not in ("en", "es"))
SOURCES = {".js", ".css", ".html"}
MOST_LINES = 9_169
MODULES = [*STATIC.glob("*.js"), *OWN]


@pytest.mark.parametrize("folder", ["texts", *PARTS])
def test_both_languages_have_the_same_texts(folder: str) -> None:
    script = f"const folder = './{folder}';"
    script += """
    const [en, es] = await Promise.all(["en", "es"].map(name => import(`${folder}/${name}.js`)));
    console.log(JSON.stringify([en, es].map(({ default: all }) =>
      Object.entries(all).map(([key, text]) => [key, typeof text, typeof text === "function" ? text.length : 0]))));
    """
    run = subprocess.run(
        ["node", "--input-type=module", "-e", script], cwd=STATIC, capture_output=True, text=True, check=False
    )
    if run.returncode:
        pytest.skip(f"node is not there or fails: {run.stderr[:200]}")
    english, spanish = json.loads(run.stdout)
    assert english == spanish


def test_large_pictures_are_shown_in_the_sizes_of_small_ones() -> None:
    script = (
        "const { grainOf } = await import('./dom.js'); console.log([16, 64, 100, 128, 130, 256].map(grainOf).join())"
    )
    run = subprocess.run(
        ["node", "--input-type=module", "-e", script], cwd=STATIC, capture_output=True, text=True, check=False
    )
    if run.returncode:
        pytest.skip(f"node is not there or fails: {run.stderr[:200]}")
    assert run.stdout.strip() == "16,64,100,64,65,64"


def test_every_text_is_used_and_every_used_text_exists() -> None:
    texts = "".join((STATIC / folder / "en.js").read_text("utf-8") for folder in ("texts", *PARTS))
    keys = set(re.findall(r"^  (\w+):", texts, re.MULTILINE))
    code = "".join([*(path.read_text("utf-8") for path in MODULES), index()])
    named = set(re.findall(r'data-t(?:-\w+)?="(\w+)"', code)) | set(re.findall(r'\bt\("(\w+)"', code))
    assert named <= keys
    prefixes = tuple(re.findall(r"`(\w+_)\$\{", code))
    unused = {key for key in keys - set(re.findall(r"\w+", code)) if not key.startswith(prefixes)}
    assert {key.removesuffix("Hint") for key in unused} <= {"empty", "noMatch", "noFavourites"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Neither at once nor later: a module that others import knows none of them."""
    imports = re.compile(r"""(?:from |loaded\()["'](\.[^"'$]+)""")
    graph = {
        path: {(path.parent / name).resolve() for name in imports.findall(path.read_text("utf-8"))} for path in MODULES
    }
    assert len(graph[STATIC / "views.js"]) > 15
    TopologicalSorter(graph).prepare()  # raises for a circle


def test_the_page_preloads_what_the_form_needs_and_after_it_what_stands_beside_it() -> None:
    """Each once."""
    links = re.findall(
        r'<link rel="modulepreload" href="/static/([^"]+)"( fetchpriority="low")?>', page_with_preloads()
    )
    first = [name for name, low in links if not low]
    second = [name for name, low in links if low]
    assert {"form.js", "models.js", "inputs.js"} <= {*first}
    assert {"views.js", "gallery.js", "tiles.js"} <= {*second}
    assert not {"page.js", "viewer.js", "grid.js", "learn/view.js"} & {*first, *second}
    assert len(links) == len({*links}) == len({*first}) + len({*second})


def index() -> str:
    return (STATIC / "index.html").read_text("utf-8")


def test_modules_are_short_and_so_is_the_whole_page() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in STATIC.rglob("*.*") if path.suffix in SOURCES}
    assert all(lines[path] < 230 for path in [*MODULES, *STATIC.rglob("*.css")])
    assert sum(lines.values()) <= MOST_LINES
