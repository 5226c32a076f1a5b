"""Every kind of job gives the same bytes by a query, JSON, both clients, and a command, with a server and without."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import AsyncClient, Client, cli
from difuso.client import Result
from tests.pictures import saved
from tests.serving import Difuso

pytestmark = pytest.mark.timeout(180)

NPY = b"\x93NUMPY"
RNG = np.random.default_rng(0)


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    return saved(Image.fromarray(pixels), "PNG")


def npy(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


A, B = (png(RNG.integers(0, 256, (16, 16, 3), np.uint8)) for _ in "ab")
DEEP = png(RNG.integers(0, 65536, (8, 12), np.uint16))
FOUR = npy(RNG.integers(0, 256, (8, 12, 4), np.uint8))
MASK = png(np.kron(np.array([[0, 255], [0, 0]], np.uint8), np.ones((8, 8), np.uint8)))
CONDITIONS = {"style": [0.5, -1], "age": 33, "glasses": ["none", "round"]}
MAPS = {
    "layout": png((np.arange(64).reshape(8, 8) % 2).astype(np.uint8)),
    "sketch": png(np.linspace(0, 255, 16).astype(np.uint8).reshape(4, 4)),
}


@dataclass(frozen=True)
class Row:
    """A request: its kind, its parameters as in JSON, and its images by the name of their part.

    Attributes:
        maps: images that are conditions, by the name of the condition.
        count: how many images are drawn.
    """

    kind: str
    options: dict[str, Any]
    images: dict[str, bytes] = field(default_factory=dict)
    maps: dict[str, bytes] = field(default_factory=dict)
    count: int = 1

    @property
    def as_arrays(self) -> bool:
        """Whether the answer is a file of arrays."""
        return "trace" in self.options or self.options.get("model") == "four"


LISTS = {"model": "shapes", "seed": [9, 3, 9], "label": ["star", "circle", "square"], "guidance_scale": 2.0}
FEW = {"steps": 4, "seed": 7}
TINY = {"model": "tiny", **FEW}
ROWS = {
    "generate": Row("generate", {"n": 3, **TINY}, count=3),
    "generate, lists": Row("generate", {**LISTS, "classifier_scale": 1.5, "sampler": "ddpm", "steps": 4}, count=3),
    "generate, conditions": Row(
        "generate",
        {"model": "traits", "label": "star", "guidance_scale": 2.0, "conditions": CONDITIONS, **FEW},
        maps=MAPS,
        count=2,
    ),
    "generate, weaker network": Row(
        "generate", {"model": "guided", "guidance_low": 0.5, "guidance_high": 20, "steps": 8, "seed": 3}
    ),
    "generate, cascade": Row("generate", {"upscale": "tiny-up", "upscale_steps": 5, "n": 2, **TINY}, count=2),
    "generate, trace": Row("generate", {"n": 3, "trace": [1, 3, "last"], **TINY}, count=3),
    "generate, four channels": Row("generate", {"model": "four", "n": 2, "trace": ["last"], **FEW}, count=2),
    "generate, 16 bits": Row("generate", {"model": "grey", "bits": 16, **FEW}),
    "interpolate": Row(
        "interpolate", {"lambda": [0.25, 0.75], "noise": "rescaled", **TINY}, {"image_a": A, "image_b": B}, count=2
    ),
    "interpolate, seeds": Row(
        "interpolate",
        {"model": "shapes", "lambda": [0, 0.5, 1], "seed": [3, 9], "label": LISTS["label"], "steps": 4},
        count=3,
    ),
    "denoise": Row("denoise", {"sigma": 20.5, "n": 2, "sampler": "ddpm", **TINY}, {"image": A}, count=2),
    "denoise, average": Row(
        "denoise", {"sigma": 40, "n": 2, "average": True, "trace": [1, "last"], **TINY}, {"image": A}, count=1
    ),
    "restore": Row("restore", {"task": "inpaint", **TINY}, {"image": A, "mask": MASK}),
    "restore, trace": Row("restore", {"task": "superres", "trace": ["last"], **TINY}, {"image": A}),
    "restore, four channels": Row("restore", {"task": "deblur", "model": "four", **FEW}, {"image": FOUR}),
    "restore, 16 bits": Row("restore", {"task": "superres", "model": "grey", "bits": 16, **FEW}, {"image": DEEP}),
    "upscale": Row("upscale", {"model": "tiny-up", **FEW}, {"image": A}),
}

Files = dict[str, bytes]  # the PNGs by their numbers, or the bytes of each array by its name


def content_of(answer: httpx.Response) -> Files:
    """What an answer of HTTP holds."""
    assert answer.status_code == 200, answer.text
    if answer.headers["Content-Type"] == "application/x-npz":
        return arrays_in(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != "manifest.json"}


def arrays_in(npz: bytes) -> Files:
    with np.load(io.BytesIO(npz)) as found:
        return {name: array.tobytes() for name, array in found.items()}


def accepted(row: Row) -> dict[str, str]:
    return {"Accept": "application/x-npz" if row.as_arrays else "application/zip"}


def condition_values(row: Row) -> list[str]:
    """The conditions that are no images, as queries and commands write them."""
    found = []
    for name, value in row.options.get("conditions", {}).items():
        for each in value if name == "glasses" else [value]:
            found.append(f"{name}:{','.join(map(str, each)) if isinstance(each, list) else each}")
    return found


def by_query(row: Row, difuso: Difuso) -> Files:
    params = {**row.options, "condition": condition_values(row)}
    params.pop("conditions", None)
    files = row.images | row.maps
    return content_of(
        httpx.post(f"{difuso.url}/{row.kind}", params=params, files=files or None, headers=accepted(row), timeout=60)
    )


def by_json(row: Row, difuso: Difuso, folder: Path) -> Files:
    sent = row.options | {name: base64.b64encode(image).decode() for name, image in row.images.items()}
    if row.maps:
        maps = {name: base64.b64encode(image).decode() for name, image in row.maps.items()}
        sent["conditions"] = row.options["conditions"] | maps
    return content_of(httpx.post(f"{difuso.url}/{row.kind}", json=sent, headers=accepted(row), timeout=60))


def arguments_of(row: Row) -> tuple[list[bytes], dict[str, Any]]:
    """The images and options of a client's method."""
    options = {"lambda_" if name == "lambda" else name: value for name, value in row.options.items()}
    options |= {name: image for name, image in row.images.items() if name == "mask"}
    if row.maps:
        options["conditions"] = options["conditions"] | row.maps
    return [image for name, image in row.images.items() if name != "mask"], options


def result_of(row: Row, result: Result) -> Files:
    if row.as_arrays:
        return {"arr_0": result.pixels.tobytes(), **{name: each.tobytes() for name, each in result.trace.items()}}
    return {f"{index}.png": image for index, image in enumerate(result.pngs)}


def by_client(row: Row, difuso: Difuso, folder: Path) -> Files:
    images, options = arguments_of(row)
    with Client(difuso.url) as client:
        return result_of(row, getattr(client, row.kind)(*images, **options))


def by_async_client(row: Row, difuso: Difuso, folder: Path) -> Files:
    images, options = arguments_of(row)

    async def made() -> Result:
        async with AsyncClient(difuso.url) as client:
            result: Result = await getattr(client, row.kind)(*images, **options)
            return result

    return result_of(row, asyncio.run(made()))


def by_command(row: Row, difuso: Difuso, folder: Path, *where: str) -> Files:
    words = [{"generate": "sample"}.get(row.kind, row.kind)]
    options = {name: value for name, value in row.options.items() if name not in ("conditions", "task")}
    words += [row.options["task"]] if row.kind == "restore" else []
    for name, image in (row.images | row.maps).items():
        file = folder / f"{name}.{'npy' if image.startswith(NPY) else 'png'}"
        file.write_bytes(image)
        words += ["--mask", str(file)] if name == "mask" else [str(file)] if name in row.images else []
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += ["-n" if name == "n" else f"--{name.replace('_', '-')}", *([] if each is True else [str(each)])]
    for each in [*condition_values(row), *(f"{name}:{folder / name}.png" for name in row.maps)]:
        words += ["--condition", each]
    out = folder / ("made.npz" if row.as_arrays else "made")
    done = CliRunner().invoke(cli.app, [*words, "--out", str(out), *where], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    if row.as_arrays:
        return arrays_in(out.read_bytes())
    return {f"{index}.png": Path(line).read_bytes() for index, line in enumerate(done.stdout.splitlines())}


def by_command_on_a_server(row: Row, difuso: Difuso, folder: Path) -> Files:
    return by_command(row, difuso, folder, "--server", difuso.url)


SURFACES: dict[str, Callable[[Row, Difuso, Path], Files]] = {
    "JSON": by_json,
    "Client": by_client,
    "AsyncClient": by_async_client,
    "command": by_command,
    "command --server": by_command_on_a_server,
}


@pytest.fixture(scope="module")
def expected(difuso: Difuso) -> dict[str, Files]:
    """The answer to the query of each row."""
    return {name: by_query(row, difuso) for name, row in ROWS.items()}


@pytest.mark.parametrize("name", ROWS)
def test_a_query_gives_as_many_images_as_are_asked_for(expected: dict[str, Files], name: str) -> None:
    row = ROWS[name]
    if row.as_arrays:
        assert "arr_0" in expected[name]
    else:
        assert expected[name].keys() == {f"{index}.png" for index in range(row.count)}
        assert len({*expected[name].values()}) == row.count


# Both clients make the same requests, so the second one makes each kind once.
CASES = [
    (name, surface)
    for name, row in ROWS.items()
    for surface in SURFACES
    if surface != "AsyncClient" or name == row.kind
]


@pytest.mark.parametrize(("name", "surface"), CASES)
def test_a_surface_gives_the_bytes_of_the_query(
    difuso: Difuso,
    small_models: Path,
    expected: dict[str, Files],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    surface: str,
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(small_models))
    assert SURFACES[surface](ROWS[name], difuso, tmp_path) == expected[name]


def test_an_answer_says_what_it_was_asked_for(difuso: Difuso) -> None:
    """A request is JSON wherever it is written down: a job's facts can be sent back."""
    with Client(difuso.url) as client:
        made = client.generate(**ROWS["generate, lists"].options)
        params = client.job(made.facts["id"]).facts["params"]
        assert json.loads(json.dumps(params)) == params
        assert client.generate(model="shapes", **params).pngs == made.pngs
