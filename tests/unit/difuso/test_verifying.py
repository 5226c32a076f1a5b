"""A picture says how it was made, and can be made again from that; a picture that was changed is found out."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file
from typer.testing import CliRunner

from difuso import cli
from difuso.commands.verifying import differences
from difuso.errors import CannotVerify, UserError
from difuso.jobs.catalog import read_catalog
from difuso.jobs.contract import ImageFile, Manifest, new_job
from difuso.jobs.kinds.generate import KIND, GenerateQuery
from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from difuso.model.conditions import VectorSequence
from difuso.model.png import PNG_KEY
from tests.strangers import PACKAGE, on_the_path, save_model, write_package

runner = CliRunner()


def difuso(*arguments: object) -> tuple[int, str]:
    """The exit status of a command, and what it prints."""
    result = runner.invoke(cli.app, [*map(str, arguments)], env={"COLUMNS": "200"}, catch_exceptions=True)
    if isinstance(result.exception, UserError):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def here(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("DIFUSO_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def drawn(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two pictures of a job."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DIFUSO_DEVICE", "cpu")
        options = ("--models-dir", models_dir, "-n", 2, "--steps", 4, "--seed", 100, "-o", folder)
        assert difuso("sample", *options)[0] == 0
    return folder


@pytest.fixture
def sampled(drawn: Path) -> Path:
    """The second of two pictures of a job."""
    for picture in drawn.iterdir():
        shutil.copy(picture, ".")
    return Path("tiny-101.png")


def facts_of(file: Path) -> dict[str, Any]:
    status, printed = difuso("inspect", file, "--json")
    assert status == 0
    facts: dict[str, Any] = json.loads(printed)
    return facts


def rewrite(file: Path, pixel: tuple[int, int, int] | None = None, **facts: object) -> None:
    """Changes the first pixel or the recipe of a picture."""
    with Image.open(file) as image:
        text = PngInfo()
        text.add_itxt(PNG_KEY, json.dumps({**json.loads(image.text[PNG_KEY]), **facts}))  # type: ignore[attr-defined]
        if pixel is not None:
            image.putpixel((0, 0), pixel)
        image.save(file, pnginfo=text, compress_level=1)


def test_a_picture_says_how_it_was_made(sampled: Path) -> None:
    facts = facts_of(sampled)
    assert (facts["model"], facts["seed"], facts["steps"], len(facts["timesteps"])) == ("tiny", 101, 4, 4)
    _, printed = difuso("inspect", sampled)
    table = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert table.keys() == facts.keys()
    assert table["version"].strip() == facts["version"]
    assert table["timesteps"].strip() == ", ".join(map(str, facts["timesteps"]))


def test_a_picture_of_several_is_made_again_alone(sampled: Path) -> None:
    status, printed = difuso("verify", sampled)
    assert (status, printed.splitlines()[0]) == (0, f"{sampled}: equal in every pixel and byte of its image data")
    assert "a network in float32 on cpu" in printed


def test_a_picture_is_made_again_in_its_number_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the deployment and the model say today."""
    monkeypatch.setenv("DIFUSO_PRECISION", "bfloat16")
    assert difuso("sample", "--steps", 4, "--seed", 100, "-o", "half")[0] == 0
    monkeypatch.delenv("DIFUSO_PRECISION")
    half = Path("half/tiny-100.png")
    assert facts_of(half)["precision"] == "bfloat16"
    status, printed = difuso("verify", half)
    assert (status, printed.splitlines()[0]) == (0, f"{half}: equal in every pixel and byte of its image data")
    assert "a network in bfloat16 on cpu" in printed
    rewrite(half, precision="float7")
    with pytest.raises(UserError, match="is damaged or of another version"):
        difuso("verify", half)


def test_a_changed_pixel_is_found(sampled: Path) -> None:
    with Image.open(sampled) as image:
        red, green, blue = image.getpixel((0, 0))  # type: ignore[misc]
    rewrite(sampled, (red, green, blue - 7 if blue > 127 else blue + 7))
    status, printed = difuso("verify", sampled)
    assert status == 1
    assert "1 of 256 pixels differ, by at most 7 grey levels" in printed


def test_pixels_that_another_program_compressed_are_distinguished_from_other_pixels() -> None:
    files = []
    for level in (1, 9):
        file = io.BytesIO()
        Image.linear_gradient("L").save(file, "PNG", compress_level=level)
        files.append(file.getvalue())
    assert [*differences(files[0], files[0])] == []
    (line,) = differences(*files)
    assert line.startswith("the pixels are equal, but not their compressed bytes")


def test_a_changed_recipe_is_found(sampled: Path) -> None:
    rewrite(sampled, author=True)
    status, printed = difuso("verify", sampled)
    assert (status, printed.splitlines()[0]) == (1, f"{sampled}: author in its recipe is True, and made again absent")
    rewrite(sampled, seed=7)
    assert "of 256 pixels differ" in difuso("verify", sampled)[1]


def test_other_weights_are_refused(sampled: Path, models_dir: Path) -> None:
    tiny = load_checkpoint(models_dir / "tiny")
    weights = load_file(models_dir / "tiny" / "model.safetensors")
    name = next(iter(weights))
    tiny.network.load_state_dict({name: weights[name].float() * 1.5}, strict=False)
    save_checkpoint(Path("others/tiny"), tiny.config, tiny.network)
    with pytest.raises(
        CannotVerify, match=r"made by version [0-9a-f]{12} of tiny, and others/tiny holds [0-9a-f]{12};"
    ):
        difuso("verify", sampled, "--models-dir", "others")
    Path("nothing").mkdir()
    with pytest.raises(CannotVerify, match=f"no model in {Path.cwd()}/nothing"):
        difuso("verify", sampled, "--models-dir", "nothing")
    assert CannotVerify.status == 2
    assert UserError.status == 1


@pytest.fixture
def uploads() -> tuple[Path, Path, Path]:
    """Two pictures that are not square, and a mask."""
    Image.radial_gradient("L").resize((24, 16)).convert("RGB").save("a.png")
    Image.linear_gradient("L").resize((16, 24)).convert("RGB").save("b.png")
    mask = Image.new("L", (24, 16))
    mask.paste(255, (4, 4, 12, 9))
    mask.save("mask.png")
    return Path("a.png"), Path("b.png"), Path("mask.png")


@pytest.mark.parametrize(
    "arguments",
    [
        "interpolate a.png b.png --lambda 0.25 --lambda 0.5 --fit contain",
        "denoise a.png --sigma 20 -n 2 --average",
        "restore inpaint a.png --mask mask.png",
        pytest.param("restore superres a.png --factor 4", marks=pytest.mark.slow),
    ],
)
def test_pictures_made_from_uploads_are_made_again_from_them(uploads: tuple[Path, ...], arguments: str) -> None:
    _, printed = difuso(*arguments.split(), "--steps", "4", "--seed", "7", "-o", "out")
    picture = printed.split()[-1]
    given = [word for file in reversed(uploads) for word in ("--upload", file)]
    assert difuso("verify", picture, *given)[0] == 0
    with pytest.raises(CannotVerify, match=r"made from uploaded files: --upload is needed for \d of \d"):
        difuso("verify", picture)


def test_a_picture_of_a_sequence_is_made_again_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever type its numbers are; others are not what it was made from."""
    monkeypatch.setenv("DIFUSO_NETWORKS", PACKAGE)
    monkeypatch.setenv("DIFUSO_MODELS_DIR", "mine")
    text = np.linspace(-2, 2, 15, dtype=np.float16).reshape(3, 5)
    for name, array in (("text", text), ("same", text.astype(np.float64)), ("other", text[:2])):
        np.save(f"{name}.npy", array)
    with on_the_path(write_package(tmp_path / "lab")):
        save_model(Path("mine/reader"), "Attentive", conditions={"text": VectorSequence(5, 4)})
        _, printed = difuso("sample", "--condition", "text:text.npy", "--steps", 4, "-o", "out")
        picture = printed.split()[-1]
        assert difuso("verify", picture, "--upload", "same.npy")[0] == 0
        with pytest.raises(CannotVerify, match="--upload is needed for 1 of 1"):
            difuso("verify", picture, "--upload", "other.npy")
        with pytest.raises(UserError, match="--condition text:FILE is missing"):
            difuso("sample", "--steps", 4, "-o", "out")


def test_pictures_between_two_seeds_are_made_again_from_their_recipe() -> None:
    seeds, shares = ("--seed", 3, "--seed", 9), ("--lambda", 0, "--lambda", 0.5)
    _, printed = difuso("interpolate", *seeds, *shares, "--steps", 4, "-o", "out")
    ends, middle = map(Path, printed.split()[-2:])
    assert [ends.name, middle.name] == ["tiny-3-to-9-0.png", "tiny-3-to-9-0.5.png"]
    assert facts_of(middle).items() >= {"seed": 3, "seeds": [3, 9], "shares": [0.5], "depth": None}.items()
    for file in (ends, middle):
        assert difuso("verify", file)[0] == 0
    rewrite(middle, seeds=[3, 8])
    assert "of 256 pixels differ" in difuso("verify", middle)[1]


def test_files_without_a_recipe_are_explained(sampled: Path) -> None:
    Image.new("RGB", (4, 4)).save("plain.png")
    Path("text.png").write_text("no picture")
    Path("cut.png").write_bytes(sampled.read_bytes()[:-40])
    for file, message in (
        ("plain.png", "plain.png holds no recipe: difuso did not write it"),
        ("text.png", "text.png: not a PNG"),
        ("absent.png", "absent.png: No such file"),
    ):
        with pytest.raises(UserError, match=message):
            difuso("inspect", file)
        with pytest.raises(CannotVerify, match=message):
            difuso("verify", file)
    with pytest.raises(CannotVerify, match=r"cut\.png"):
        difuso("verify", "cut.png")


@pytest.mark.parametrize(
    "facts",
    [
        {"model": 7},
        {"steps": "many"},
        {"label": 3},
        {"pictures": [{}]},
        {"kind": "interpolate"},
        {"seed": None},
    ],
)
def test_a_recipe_that_no_run_can_have_is_refused(sampled: Path, facts: dict[str, Any]) -> None:
    rewrite(sampled, **facts)
    with pytest.raises(CannotVerify):
        difuso("verify", sampled)


# A title, the clipboard, an erased screen, text that runs backwards, and what no encoding can write.
OBEYED = "\x1b]0;title\x07 \x1b]52;c;YQ==\x07 \x1b[2J \x9b2J \u202e \x00 \r \udcff"


def test_a_terminal_gets_no_characters_that_it_obeys(sampled: Path, capfd: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, Any] = {OBEYED: OBEYED, "list": [OBEYED], "deep": {OBEYED: OBEYED}}
    rewrite(sampled, **facts)
    for command in (("inspect", sampled), ("inspect", sampled, "--json"), ("verify", sampled)):
        with patch("sys.argv", ["difuso", *map(str, command)]), suppress(SystemExit):
            cli.main()
        printed = "".join(capfd.readouterr())
        assert r"\x1b]52" in printed.replace(r"\u001b", r"\x1b")
        assert all(each.isprintable() or each == "\n" for each in printed), command


def test_a_contact_sheet_names_its_job_and_is_not_made_again(sampled: Path, models_dir: Path) -> None:
    from difuso.app.formats import Result, sheet

    model = read_catalog(models_dir).choose("tiny")
    pngs = [Path(f"tiny-{seed}.png").read_bytes() for seed in (100, 101)]
    manifest = Manifest(
        job=new_job("tiny", KIND.prepare(GenerateQuery.model_validate({"n": 2, "steps": 4, "seed": [100]}), model, {})),
        timesteps=(9, 0),
        images=tuple(ImageFile(path=f"{seed}", seed=seed, sha256="") for seed in (100, 101)),
        finished_at=0,
    )
    Path("sheet.png").write_bytes(sheet(Result(manifest, pngs)))
    assert facts_of(Path("sheet.png"))["params"]["n"] == 2
    with pytest.raises(CannotVerify, match="shows several images"):
        difuso("verify", "sheet.png")


def test_versions_are_printed_without_torch() -> None:
    from importlib.metadata import version

    assert difuso("--version") == (0, f"difuso {version('difuso')}, torch {version('torch')}\n")
