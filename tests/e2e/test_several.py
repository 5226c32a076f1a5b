"""Several seeds and labels in one request: each image is the one that it is alone."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import httpx
import pytest
from PIL import Image

from difuso.commands.recipes import recipe_in
from tests.pictures import saved
from tests.serving import Difuso
from tests.small_models import CLASSES

pytestmark = pytest.mark.timeout(180)

PNG = saved(Image.linear_gradient("L").resize((8, 8)).convert("RGB"), "PNG")
MASK = saved(Image.new("L", (8, 4), 255).crop((0, 0, 8, 8)), "PNG")
COMMON: dict[str, Any] = {"model": "shapes", "steps": 4}
GUIDED = {"guidance_scale": 2.0, "classifier_scale": 1.5}


def ask(difuso: Difuso, kind: str, query: dict[str, Any], files: dict[str, bytes]) -> tuple[list[bytes], Any]:
    """The PNGs of an answer, and its manifest."""
    answer = httpx.post(
        f"{difuso.url}/{kind}",
        params=COMMON | query,
        files=files or None,
        headers={"Accept": "application/zip"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        return [archive.read(image["file"]) for image in manifest["images"]], manifest


SEEDS, LABELS = [9, 3, 9], ["star", "circle", "square"]
LISTS: list[tuple[str, dict[str, Any], dict[str, bytes]]] = [
    ("generate", {"seed": SEEDS, "label": LABELS, "sampler": "ddpm", **GUIDED}, {}),
    ("generate", {"seed": [7, 5], "label": "all", "classifier_scale": 1.5}, {}),
    ("generate", {"seed": 5, "label": "all"}, {}),
    ("generate", {"seed": [9, 3, 4], "label": "star"}, {}),
    ("denoise", {"seed": SEEDS, "label": LABELS, "sigma": 40, "sampler": "ddpm", **GUIDED}, {"image": PNG}),
    (
        "restore",
        {"seed": SEEDS, "label": LABELS, "task": "inpaint", "guidance_scale": 2.0},
        {"image": PNG, "mask": MASK},
    ),
    (
        "interpolate",
        {"lambda": [0.2, 0.5, 0.8], "seed": 5, "label": LABELS, **GUIDED},
        {"image_a": PNG, "image_b": MASK},
    ),
]


@pytest.mark.parametrize(("kind", "query", "files"), LISTS)
def test_each_image_is_the_file_that_it_is_alone(
    difuso: Difuso, kind: str, query: dict[str, Any], files: dict[str, bytes]
) -> None:
    together, manifest = ask(difuso, kind, query, files)
    assert len({*together}) == len(together) == manifest["params"]["n"] > 1
    for index, png in enumerate(together):
        facts = recipe_in(png)
        label = None if facts["label"] is None else CLASSES[facts["label"]]
        own: dict[str, Any] = {"seed": facts["seed"], "n": 1} | ({} if label is None else {"label": label})
        if kind == "interpolate":
            own["lambda"] = query["lambda"][index]
        assert ask(difuso, kind, query | own, files)[0] == [png]
        seed, labels = query["seed"], query.get("label")
        assert facts["seed"] == (
            seed[index] if isinstance(seed, list) else seed if kind == "interpolate" else seed + index
        )
        assert label == (labels[index] if isinstance(labels, list) else CLASSES[index] if labels == "all" else labels)
        listed = {"label": facts["label"]} if isinstance(manifest["params"]["label"], list) else {}
        assert listed.items() <= manifest["images"][index].items()
        assert listed or "label" not in manifest["images"][index]


@pytest.mark.parametrize("query", [{"sampler": "dpmpp"}, {"sampler": "unipc", "label": LABELS, **GUIDED}])
def test_the_ends_between_two_seeds_are_what_generate_draws(difuso: Difuso, query: dict[str, Any]) -> None:
    """Pixel for pixel; the answer is one row, and its recipes make each image again alone."""
    between = {**query, "seed": [3, 9], "lambda": [0, 0.5, 1]}
    (first, middle, last), manifest = ask(difuso, "interpolate", between, {})
    assert (manifest["task"]["seeds"], manifest["task"]["shares"]) == ([3, 9], [0, 0.5, 1])
    labels = query.get("label")
    for end, seed, index in ((first, 3, 0), (last, 9, 2)):
        own = {"label": labels[index]} if isinstance(labels, list) else {}
        (alone,), _ = ask(difuso, "generate", query | {"seed": seed} | own, {})
        assert pixels(end) == pixels(alone) != pixels(middle)
    own = {"label": labels[1]} if isinstance(labels, list) else {}
    assert ask(difuso, "interpolate", between | {"lambda": 0.5} | own, {})[0] == [middle]
    row = httpx.post(f"{difuso.url}/interpolate", params=COMMON | between, timeout=60).raise_for_status().content
    with Image.open(io.BytesIO(row)) as image, Image.open(io.BytesIO(first)) as one:
        assert image.height == one.height
        assert image.width > 3 * one.width


def pixels(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png)) as image:
        return image.tobytes()
