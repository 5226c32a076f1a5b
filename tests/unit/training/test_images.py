"""Any picture becomes an array of one size, and what is none is left out and named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difuso.model.shape import Shape
from difuso.training.data.faces import draw_face, draw_faces
from difuso.training.data.images import ImageArray, centre_crop, decode, list_images
from difuso.training.errors import RecipeError

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
