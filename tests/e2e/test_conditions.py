"""A model with conditions, served: what its images say of them, and what is left to chance."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import Client, cli
from difuso.errors import UserError
from difuso.model.png import PNG_KEY
from tests.pictures import saved

LAYOUT = (np.arange(64).reshape(8, 8) % 2).astype(np.uint8)
SKETCH = np.linspace(0, 255, 16).astype(np.uint8).reshape(4, 4)
PARTS = {"layout": saved(Image.fromarray(LAYOUT), "PNG"), "sketch": saved(Image.fromarray(SKETCH), "PNG")}
RUN: dict[str, Any] = {"model": "traits", "steps": 4, "seed": 7, "guidance_scale": 2.0, "label": "star"}
GIVEN = ("style:0.5,-1", "age:33", "glasses:none", "glasses:round")


@pytest.fixture
def here(small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the two images."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"MODELS_DIR": str(small_models), "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"DIFUSO_{name}", value)
    for name, png in PARTS.items():
        Path(f"{name}.png").write_bytes(png)
    return tmp_path


@pytest.fixture
def client(api: httpx.Client) -> Iterator[Client]:
    with Client(str(api.base_url)) as client:
        yield client


def command(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, [*map(str, arguments)], env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def of_http(api: httpx.Client) -> list[bytes]:
    params = {**RUN, "condition": [*GIVEN]}
    answer = api.post("/generate", params=params, files=PARTS, headers={"Accept": "application/zip"})
    answer.raise_for_status()
    job = answer.headers["X-Job-Id"]
    return [api.get(f"/jobs/{job}/images/{index}").content for index in range(2)]


def test_an_image_names_its_conditions_and_is_made_again_from_them(api: httpx.Client, here: Path) -> None:
    for index, png in enumerate(of_http(api)):
        file = Path(f"{index}.png")
        file.write_bytes(png)
        with Image.open(file) as image:
            facts = json.loads(image.info[PNG_KEY])
        assert facts["conditions"]["glasses"] == [["none", "round"][index]]
        assert facts["conditions"]["style"] == [[0.5, -1.0]]
        assert "equal" in command("verify", file, "--upload", "sketch.png", "--upload", "layout.png")
        with pytest.raises(UserError, match="--upload is needed for 2 of 2"):
            command("verify", file)


def test_what_is_left_to_chance_is_named_and_made_again_whoever_draws(api: httpx.Client, here: Path) -> None:
    run: dict[str, Any] = {"model": "examples", "steps": 3, "seed": 7, "guidance_scale": 2}
    job = api.post("/generate", params=run | {"n": 6}).headers["X-Job-Id"]
    served = [api.get(f"/jobs/{job}/images/{index}").content for index in range(6)]
    glasses = api.get(f"/jobs/{job}").json()["params"]["conditions"]["glasses"]
    assert len(glasses) == 6
    assert len({*glasses}) > 1
    asked = api.post("/generate", params=run | {"condition": f"glasses:{json.dumps(glasses)}"}).headers["X-Job-Id"]
    assert [api.get(f"/jobs/{asked}/images/{index}").content for index in range(6)] == served
    options = [f"--{name.replace('_', '-')}={value}" for name, value in run.items()]
    command("sample", *options, "-n", 6, "-o", "drawn")
    drawn = sorted(Path("drawn").iterdir())
    assert sorted(path.read_bytes() for path in drawn) == sorted(served)
    with Image.open(drawn[0]) as image:
        assert json.loads(image.info[PNG_KEY])["conditions"]["glasses"] == [
            glasses[served.index(drawn[0].read_bytes())]
        ]
    assert "equal" in command("verify", drawn[0])


@pytest.mark.parametrize(
    "query", [{"kind": "denoise", "strength": 0.9}, {"kind": "restore", "task": "colorize"}], ids=str
)
def test_what_is_found_for_a_picture_is_shown_and_made_again_whoever_draws(
    client: Client, here: Path, query: dict[str, Any]
) -> None:
    picture = Image.fromarray(np.indices((8, 8, 3)).sum(0).astype(np.uint8) * 14)
    picture.save("face.png")
    options = {"model": "examples", "steps": 3, "seed": 7, "n": 2, **query}
    kind = options.pop("kind")
    price = client.price(kind, picture, **options)
    assert (price.image_steps, (price.task or {})["probes"]) == (2 * 3 + 3, 3)
    job = client.submit(kind, picture, **options).wait()
    images, found = job.images(), job.facts["params"]["conditions"]
    assert images.manifest["params"]["conditions"] == images.facts["params"]["conditions"] == found
    assert job.facts["steps"] == {"done": 9, "total": 9}
    named = getattr(client, kind)(picture, conditions=found, **options)
    assert named.pngs == images.pngs
    nothing = getattr(client, kind)(picture, conditions={}, **options)
    assert "conditions" not in nothing.facts["params"]
    assert nothing.pngs != images.pngs
    Path("found.png").write_bytes(images.pngs[0])
    assert "equal" in command("verify", "found.png", "--upload", "face.png")
    texts = [f"--{name}={value}" for name, value in options.items() if name not in ("n", "task")]
    command(kind, *([options["task"]] if "task" in options else []), "face.png", *texts, "-n", 2, "-o", "drawn")
    assert sorted(path.read_bytes() for path in Path("drawn").iterdir()) == sorted(images.pngs)


def test_a_file_that_is_missing_is_named(here: Path) -> None:
    with pytest.raises(UserError, match="--condition layout:FILE is missing"):
        command("sample", "--model", "traits", "--condition", "style:1,1")
    with pytest.raises(UserError, match="style: traits needs this: a list of 2 numbers"):
        command("sample", "--model", "traits", "--condition", "layout:layout.png")
