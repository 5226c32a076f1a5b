"""`difuso sample --out FILE.npz` and `difuso evaluate quality`, on a server and without one: the bytes are equal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import Client, cli
from difuso.commands import evaluate_quality
from difuso.drawing.bulk import CHUNK
from difuso.errors import UserError
from tests.colours import Colours
from tests.forking import Command
from tests.serving import ENVIRONMENT, Difuso
from tests.small_models import CLASSES
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def environment(models_dir: Path) -> dict[str, str]:
    return ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(models_dir), "DIFUSO_DRAIN_SECONDS": "1"}


@pytest.fixture(autouse=True)
def here(small_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(small_models))


def run(*arguments: object) -> None:
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output


def start(*arguments: object, environment: dict[str, str] = ENVIRONMENT, log: Path = Path(os.devnull)) -> Command:
    """`difuso sample` as a process of its own."""
    return Command(["sample", *map(str, arguments)], environment=environment, folder=Path.cwd(), log=log)


def parts(out: Path) -> list[str]:
    return [path.name for path in out.with_name(f"{out.name}.parts").glob("[0-9]*.npy")]


def seeds(difuso: Difuso, tag: str) -> list[int]:
    """The seed of every image of every job with a tag."""
    with Client(difuso.url) as client:
        params = [job.facts["params"] for job in client.jobs(tag=tag)]
    return sorted(each["seed"] + i for each in params for i in range(each["n"]))


SEVERAL = [word for i in range(40) for word in ("--seed", 7 * i, "--label", CLASSES[i // 3 % 3])]
REQUESTS = {
    "classes": ("-n", 40, "--steps", 3, "--seed", 100, "--model", "shapes", "--label", "all"),
    "lists": ("--steps", 3, "--model", "shapes", *SEVERAL),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.slow
def test_a_server_gives_the_bytes_of_the_local_command(difuso: Difuso, tmp_path: Path, name: str) -> None:
    run("sample", *REQUESTS[name], "--out", tmp_path / "served.npz", "--server", difuso.url)
    run("sample", *REQUESTS[name], "--out", tmp_path / "local.npz")
    assert (tmp_path / "served.npz").read_bytes() == (tmp_path / "local.npz").read_bytes()
    with np.load(tmp_path / "local.npz") as content:
        images = content["arr_0"]
        assert len({image.tobytes() for image in images}) == len(images) == 40
        if name == "classes":
            assert content["arr_1"].tolist() == [i % 3 for i in range(40)]


LONG = ("-n", 4 * CHUNK + 8, "--steps", 25, "--seed", 100, "--model", "tiny")


@pytest.fixture(scope="module")
def whole(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of LONG, drawn here without an interruption."""
    out = tmp_path_factory.mktemp("whole") / "whole.npz"
    assert start(*LONG, "--out", out, environment=environment).wait() == 0
    return out.read_bytes()


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_and_makes_no_image_twice(
    difuso: Difuso, tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "samples.npz"
    request = (*LONG, "--out", out, "--server", difuso.url, "--tag", "killed")
    command = start(*request)
    wait_until(lambda: parts(out), timeout=60, description="a part is there")
    command.kill()
    command.wait(30)
    assert 0 < len(parts(out)) < 5
    assert not out.exists()
    run("sample", *request)
    assert out.read_bytes() == whole
    assert seeds(difuso, "killed") == [*range(100, 100 + int(LONG[1]))]
    assert [*tmp_path.iterdir()] == [out]


def test_mistakes_are_explained_and_leave_nothing(difuso: Difuso, small_models: Path, tmp_path: Path) -> None:
    names = ", ".join(sorted(path.name for path in small_models.iterdir()))
    for arguments, message in (
        (("--steps", 1001), "steps:? [Mm]ust lie between 1 and 1000"),
        (("--model", "tiny", "--label", "all"), "label: Input should be omitted: tiny has no classes"),
        (("--model", "shapes", "--seed", 3, "--seed", 9), "n: Input should be the number of seeds, 2, or omitted"),
        (("--model", "shapes", "--label", "moon"), "label: Input should be a class of shapes, by name or index 0 to 2"),
        (("--model", "shapes", "--sampler", "ddpm", "--eta", 0.5), "eta"),
        (("--model", "nobody"), f"model: Input should be one of {names}"),
    ):
        for place in ((), ("--server", difuso.url)):
            with pytest.raises(UserError, match=message):
                run("sample", "-n", 100, *arguments, *place, "--out", tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"-n must be at most 64, not 65, unless --out is an \.npz or \.npy file"):
        run("sample", "-n", 65, "--out", tmp_path / "folder")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_an_evaluation_draws_on_a_server_what_it_draws_here(
    difuso: Difuso, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_quality, "EfficientNetLite0", lambda device: Colours())
    real = tmp_path / "real"
    real.mkdir()
    for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(image).save(real / f"{i:02}.png")
    arguments = ("evaluate", "quality", "ddim:2", "ddim:3", "--model", "shapes", "--seed", 7, "--images", 40)
    run(*arguments, "--reference", real, "--out", tmp_path / "here")
    # Where a server draws there need not be a model.
    elsewhere = ("--models-dir", tmp_path / "nowhere", "--server", difuso.url)
    run(*arguments, "--reference", real, *elsewhere, "--out", tmp_path / "there")

    def drawn(out: str) -> dict[str, bytes]:
        (folder,) = (tmp_path / out / "pictures").iterdir()  # named by the model's version, as far as it is known
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.npz")}

    assert len(drawn("here")) == 2
    assert drawn("there") == drawn("here")
    both = [json.loads((tmp_path / out / "quality.json").read_text())["rows"] for out in ("here", "there")]
    for here, there in zip(*both, strict=True):
        assert there["figures"] == here["figures"]
        assert there["drawn"] == here["drawn"]
