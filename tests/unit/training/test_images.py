"""Image files are read upright and opaque, in any shape, of any channels, and with 16 bits."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difuso.model import load_checkpoint
from difuso.model.pictures import as_pictures
from difuso.model.shape import Shape
from difuso.training.data import dataset
from difuso.training.data.faces import draw_face, draw_faces
from difuso.training.data.images import ImageArray, centre_crop, decode, list_images, size_of
from difuso.training.errors import RecipeError
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.journal import GAP
from difuso.training.run.run import train

RED, GREEN = (255, 0, 0), (0, 255, 0)


def read_one(folder: Path, channels: int = 3) -> ImageArray:
    """The only image of a folder, at 8x8."""
    (path,) = list_images(folder)
    return decode(path, Shape.of(8, channels))


def two_halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (8, 8), left)
    image.paste(right, (4, 0, 8, 8))
    return image


def test_the_camera_s_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # hold the camera upright: turn by 90 degrees clockwise to see it right
    two_halves(RED, GREEN).save(tmp_path / "a.png", exif=exif)
    image = read_one(tmp_path)
    assert tuple(image[0, 4]) == RED
    assert tuple(image[7, 4]) == GREEN


def test_transparency_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (*RED, 0))
    image.paste((*GREEN, 255), (4, 0, 8, 8))
    image.save(tmp_path / "a.png")
    pixels = read_one(tmp_path)
    assert tuple(pixels[4, 0]) == (255, 255, 255)
    assert tuple(pixels[4, 7]) == GREEN


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    two_halves(RED, GREEN).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    pixels = read_one(tmp_path)
    assert tuple(pixels[4, 0]) == RED
    assert tuple(pixels[4, 7]) == GREEN


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(tmp_path / "a.png")
    assert (read_one(tmp_path) == 100).all()
    assert (read_one(tmp_path, channels=1) == 100).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_of_picture_is_read(mode: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").convert(mode).save(file, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    for channels in (1, 3):
        assert (decode(file, Shape.of(8, channels)) == 255).all()


def test_what_has_neither_8_nor_16_bits_is_refused() -> None:
    for pixels in (np.full((8, 8), 0.5, np.float32), np.full((8, 8), 70_000, np.int32)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "TIFF")
        with pytest.raises(ValueError, match="neither 8 nor 16 bits"):
            decode(file, Shape.of(8, 1))


def guided_crop(pixels: ImageArray, size: int) -> ImageArray:
    """guided-diffusion's steps, on an array: halve by means of 2x2, resize, take the middle."""
    while min(pixels.shape[:2]) >= 2 * size:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        quarters = pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3).astype(float)
        pixels = np.floor(quarters.mean(axis=(1, 3)) + 0.5).astype(np.uint8)
    scale = size / min(pixels.shape[:2])
    image = Image.fromarray(pixels)
    resized = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    middle = np.asarray(resized)
    top, left = (middle.shape[0] - size) // 2, (middle.shape[1] - size) // 2
    return middle[top : top + size, left : left + size]


@pytest.mark.parametrize("shape", [(100, 60), (64, 64), (40, 90), (20, 33), (8, 8)])
def test_the_crop_is_that_of_guided_diffusion(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape[::-1], 3), dtype=np.uint8)
    if min(shape) >= 32:
        pixels = pixels[: pixels.shape[0] // 4 * 4, : pixels.shape[1] // 4 * 4]  # so that halves are whole
    cropped = np.asarray(centre_crop(Image.fromarray(pixels), Shape.of(16, 3)))
    assert np.abs(cropped.astype(int) - guided_crop(pixels, 16)).max() <= 2  # halves are rounded twice


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    for folder in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(RecipeError, match="there are no images below"):
            list_images(folder)


def test_a_face_is_its_seed_s_and_splits_share_none() -> None:
    pytest.importorskip("resvg_py")
    train, again, test = (list(draw_faces(split, 6, 32)) for split in ("train", "train", "test"))
    assert np.array_equal(train, again)
    assert len({face.tobytes() for face in (*train, *test)}) == 12
    assert np.array_equal(train[5], draw_face("train-5", 32))
    assert train[0].shape == (32, 32, 3)
    assert train[0].dtype == np.uint8


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
def test_a_run_draws_what_it_was_trained_on(tmp_path: Path, shape: Shape, bits: int) -> None:
    images = RNG.integers(0, 2**bits, (10, *shape.hwc), dtype=np.uint8 if bits == 8 else np.uint16)
    np.savez(tmp_path / "images.npz", arr_0=images)

    asked = recipe(tmp_path / "images.npz", shape, "max_steps=2", f"data.bits={bits}", "data.flip=true")
    assert train(asked, tmp_path / "run") == 2
    assert (tmp_path / "run" / "data" / "images.bytes").read_bytes() == images.tobytes()
    config = load_checkpoint(tmp_path / "run" / "model").config
    assert (config.shape, config.image_size) == (shape, shape.image_size)
    with Image.open(tmp_path / "run" / "sheets" / "00000002.png") as sheet:
        height, width = as_pictures(images[:1]).shape[1:3]
        assert sheet.size == (8 * (width + GAP) + GAP, 8 * (height + GAP) + GAP)


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
    ("channels", "changes", "message"),
    [
        (3, ("data.source=faces", "image_size=[8, 12]"), "the drawn faces are square: image_size must be one number"),
        (3, ("data.bits=16",), "RGB images have 8 bits here"),
        (3, ("image_size=[8, 12]", "crop=4"), "crops are of squares: image_size must be one number"),
        (3, ("image_size=[8, 12]", "network.condition_channels=3", "condition.size=4"), "a condition draws squares"),
        (3, ("image_size=[8, 16]", "data.flip=dihedral"), "flip dihedral turns squares"),
        (4, ("loss=vlb", "data.bits=16"), "loss vlb knows 256 levels"),
        (4, ("network.condition_channels=1", "condition.size=4", "data.bits=16"), "conditions have 8 bits"),
        (4, ("network.condition_channels=3", "condition.size=4"), "draws squares of 1 or 3 channels"),
        (4, ("kid_every=5", "data.bits=16"), "KID is of grey or RGB images of 8 bits"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, channels: int, changes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, Shape(channels, 8, 8), *changes)


def test_arrays_of_16_bits_need_the_recipe_to_say_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", arr_0=DEEP[None, :, :, None])
    with pytest.raises(RecipeError, match=r"uint16 with data\.bits = 16"):
        dataset.first_images(recipe(tmp_path / "images.npz", Shape(1, 8, 12)))
