"""Training on images that are not square, have other channels than a PNG, or have 16 bits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.model import load_checkpoint
from difuso.model.shape import Shape
from difuso.training.data import dataset
from difuso.training.data.images import centre_crop, decode, size_of
from difuso.training.errors import RecipeError
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.journal import GAP
from difuso.training.run.run import train
from difuso.training.run.state import load_state

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = (
    *("batch_size=4", "precision=float32", "network.channels=8", "network.channel_mult=[1]", "network.groups=4"),
    *("network.head_channels=8", "defaults.steps=2", "log_every=2", "save_every=2", "sheet_every=100"),
)
RNG = np.random.default_rng(2)
DEEP = RNG.integers(0, 65536, (8, 12), dtype=np.uint16)


def recipe(path: Path, shape: Shape, *changes: str, source: str = "npz") -> Recipe:
    given = (f"data.source={source}", f"data.path={path}", f"image_size={json.dumps(shape.image_size)}")
    channels = tuple(f"{name}={shape.channels}" for name in ("channels", "network.in_channels", "network.out_channels"))
    return load_recipe("smoke", [*TINY, *given, *channels, *changes])


def saved(image: Image.Image, form: str = "PNG") -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form)
    file.seek(0)
    return file


def npy(pixels: np.ndarray[Any, Any]) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, pixels)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    ("shape", "bits"),
    [
        (Shape(4, 12, 8), 8),
        (Shape(1, 8, 12), 16),
    ],
)
def test_a_resumed_run_is_bit_equal_to_one_that_never_stopped(tmp_path: Path, shape: Shape, bits: int) -> None:
    images = RNG.integers(0, 2**bits, (10, *shape.hwc), dtype=np.uint8 if bits == 8 else np.uint16)
    np.savez(tmp_path / "images.npz", arr_0=images)

    def run(steps: int, folder: str) -> Any:
        asked = recipe(tmp_path / "images.npz", shape, f"max_steps={steps}", f"data.bits={bits}", "data.flip=true")
        assert train(asked, tmp_path / folder) == steps
        state = load_state(tmp_path / folder)
        assert state is not None
        return state["trainer"]

    straight = run(4, "straight")
    run(2, "stopped")
    resumed = run(4, "stopped")
    for name, tensor in straight["network"].items():
        assert torch.equal(tensor, resumed["network"][name]), name
    assert (tmp_path / "straight" / "data" / "images.bytes").read_bytes() == images.tobytes()
    config = load_checkpoint(tmp_path / "stopped" / "model").config
    assert (config.shape, config.image_size) == (shape, shape.image_size)
    with Image.open(tmp_path / "straight" / "sheets" / "00000004.png") as sheet:
        columns, rows = 8, 8
        assert sheet.size[0] == columns * (shape.width + GAP) + GAP
        assert sheet.size[1] == rows * (shape.planes * shape.height + GAP) + GAP


@pytest.mark.parametrize(("size", "left", "top"), [((40, 16), 8, 0), ((24, 32), 0, 8), ((24, 16), 0, 0)])
def test_the_middle_of_the_wanted_aspect_is_kept(size: tuple[int, int], left: int, top: int) -> None:
    """Images of 24x16 or more, for a model of 12x8: the middle, halved by the box filter."""
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    middle = Image.fromarray(pixels).crop((left, top, left + 24, top + 16))
    cropped = centre_crop(Image.fromarray(pixels), Shape(3, 8, 12))
    assert cropped.size == (12, 8)
    assert np.array_equal(np.asarray(cropped), np.asarray(middle.resize((12, 8), Image.Resampling.BOX)))


def test_16_bits_stay_and_8_become_16() -> None:
    shape = Shape(1, 8, 12)
    for form in ("PNG", "TIFF"):
        assert np.array_equal(decode(saved(Image.fromarray(DEEP), form), shape, bits=16)[..., 0], DEEP)
    half = np.repeat(np.repeat(DEEP, 2, axis=0), 2, axis=1)
    assert np.array_equal(decode(saved(Image.fromarray(half)), shape, bits=16)[..., 0], DEEP)
    usual = (DEEP >> 8).astype(np.uint8)
    assert np.array_equal(decode(saved(Image.fromarray(usual)), shape, bits=16)[..., 0], usual.astype(np.uint16) * 257)
    assert np.array_equal(decode(saved(Image.fromarray(DEEP)), shape)[..., 0], DEEP // 257)


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_an_array_in_a_file_is_an_image(tmp_path: Path, channels: int) -> None:
    shape = Shape(channels, 8, 12)
    pixels = RNG.integers(0, 256, shape.hwc, dtype=np.uint8)
    assert np.array_equal(decode(npy(pixels), shape), pixels)
    np.save(tmp_path / "a.npy", np.repeat(np.repeat(pixels, 2, axis=0), 2, axis=1))
    assert size_of(tmp_path / "a.npy") == (16, 24)
    assert np.array_equal(decode(tmp_path / "a.npy", shape), pixels)


def test_a_folder_of_arrays_is_read_and_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    folder, shape = tmp_path / "images", Shape(4, 8, 12)
    folder.mkdir()
    images = RNG.integers(0, 256, (5, *shape.hwc), dtype=np.uint8)
    for index, pixels in enumerate(images):
        np.save(folder / f"{index}.npy", pixels)
    np.save(folder / "floats.npy", images[0].astype(np.float32))
    np.save(folder / "three.npy", images[0, :, :, :3])
    Image.new("RGBA", (12, 8)).save(folder / "png.png")
    asked = recipe(folder, shape, source="folder")
    dataset.scan(asked, tmp_path / "data")
    assert np.array_equal(dataset.load(asked, tmp_path / "data").images, images)
    report = json.loads((tmp_path / "data" / "report.json").read_text())["unreadable"]
    assert report.keys() == {"floats.npy", "three.npy", "png.png"}
    assert "(H, W, 4)" in report["three.npy"]
    assert "must be an array, saved as .npy" in report["png.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("data.source=faces", "image_size=[8, 12]"), "the drawn faces are square: image_size must be one number"),
        (("data.bits=16",), "RGB images have 8 bits here"),
        (("image_size=[8, 12]", "crop=4"), "crops are of squares: image_size must be one number"),
        (("image_size=[8, 12]", "network.condition_channels=3", "condition.size=4"), "a condition draws squares"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path: Path, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, Shape(3, 8, 8), *changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("loss=vlb", "data.bits=16"), "loss vlb knows 256 levels"),
        (("network.condition_channels=1", "condition.size=4", "data.bits=16"), "conditions have 8 bits"),
        (("network.condition_channels=3", "condition.size=4"), "draws squares of 1 or 3 channels"),
        (("kid_every=5", "data.bits=16"), "KID is of grey or RGB images of 8 bits"),
    ],
)
def test_what_knows_8_bits_and_colours_only_is_refused(tmp_path: Path, change: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, Shape(4, 8, 8), *change)


def test_arrays_of_16_bits_need_the_recipe_to_say_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", arr_0=DEEP[None, :, :, None])
    with pytest.raises(RecipeError, match=r"uint16 with data\.bits = 16"):
        dataset.first_images(recipe(tmp_path / "images.npz", Shape(1, 8, 12)))
