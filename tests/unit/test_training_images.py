"""Any folder of pictures becomes one array, and the order of its images can be found again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.faces import draw_face, draw_faces
from training.images import Batches, ImageArray, load_images, read_folder
from training.recipe import RecipeError, load_recipe

RED, GREEN = (255, 0, 0), (0, 255, 0)


def read_one(folder: Path, channels: int = 3) -> ImageArray:
    """The only image of a folder, at 8x8."""
    images, unreadable = read_folder(folder, 8, channels)
    assert not unreadable
    assert images.shape == (1, 8, 8, channels)
    image: ImageArray = images[0]
    return image


def two_halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (8, 8), left)
    image.paste(right, (4, 0, 8, 8))
    return image


def test_unreadable_files_are_left_out_and_named(tmp_path: Path) -> None:
    """One bad file among thousands must not end a run."""
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (9, 9), RED).save(tmp_path / "deep" / "good.PNG")
    (tmp_path / "no-image.png").write_bytes(b"hello")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "whole.jpg").unlink()
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("not an image, and not meant to be one")
    images, unreadable = read_folder(tmp_path, 8, 3)
    assert len(images) == 1
    assert [path.name for path, _ in unreadable] == ["no-image.png", "torn.jpg"]


def test_the_camera_s_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # hold the camera upright: turn by 90 degrees clockwise to see it right
    two_halves(RED, GREEN).save(tmp_path / "a.png", exif=exif)
    image = read_one(tmp_path)
    assert tuple(image[0, 4]) == RED
    assert tuple(image[7, 4]) == GREEN


def test_the_middle_of_a_wide_picture_is_kept(tmp_path: Path) -> None:
    image = Image.new("RGB", (24, 8), RED)
    image.paste(GREEN, (8, 0, 16, 8))
    image.save(tmp_path / "a.png")
    assert (read_one(tmp_path) == GREEN).all()


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


def test_a_folder_without_images_or_with_too_few_is_refused(tmp_path: Path) -> None:
    changes = ["data.source=folder", f"data.path={tmp_path}", "batch_size=2"]
    with pytest.raises(RecipeError, match="no PNG or JPEG files below"):
        load_images(load_recipe("smoke", changes), tmp_path / "cache")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(RecipeError, match="1 images do not fill one batch of 2"):
        load_images(load_recipe("smoke", changes), tmp_path / "cache")


def test_a_face_is_its_seed_s_and_splits_share_none() -> None:
    pytest.importorskip("resvg_py")
    train, again, test = (list(draw_faces(split, 6, 32, workers=2)) for split in ("train", "train", "test"))
    assert np.array_equal(train, again)
    assert len({face.tobytes() for face in (*train, *test)}) == 12
    assert np.array_equal(train[5], draw_face("train-5", 32))
    assert train[0].shape == (32, 32, 3)
    assert train[0].dtype == np.uint8


def test_faces_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    recipe = load_recipe("smoke", ["data.count=4", "batch_size=2"])
    first = load_images(recipe, tmp_path)
    monkeypatch.setattr("training.images.draw_faces", None)
    assert np.array_equal(load_images(recipe, tmp_path), first)
    assert first.shape == (4, 16, 16, 3)


NUMBERED = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def take(batches: Batches, count: int) -> list[list[int]]:
    """The numbers of the images in the next batches."""
    stream = iter(batches)
    return [[round(float(image[0, 0, 0] + 1) * 127.5) for image in next(stream)] for _ in range(count)]


def test_an_epoch_shows_no_image_twice_and_the_next_has_another_order() -> None:
    first, second, third, fourth = (set(batch) for batch in take(Batches(NUMBERED, 5, seed=0), 4))
    assert first | second == third | fourth == set(range(10))
    assert first != third


def test_the_order_goes_on_from_any_position() -> None:
    straight = take(Batches(NUMBERED, 3, seed=1), 11)
    for position in (1, 3, 7):
        batches = Batches(NUMBERED, 3, seed=1)
        batches.position = position
        assert take(batches, 11 - position) == straight[position:]
    assert take(Batches(NUMBERED, 3, seed=2), 11) != straight


def test_flips_mirror_about_half_of_the_images() -> None:
    images = np.zeros((400, 2, 2, 3), np.uint8)
    images[:, :, 0] = 255
    torch.manual_seed(0)
    (batch,) = (next(iter(Batches(images, 400, seed=0, flip=True))) for _ in range(1))
    mirrored = int((batch[:, 0, 0, 1] == 1).sum())
    assert 150 < mirrored < 250
    assert int((batch[:, 0, 0, 0] == 1).sum()) == 400 - mirrored


def test_recipes_say_where_images_come_from() -> None:
    assert dataclasses.asdict(load_recipe("faces64").data) == {
        "source": "faces", "path": "", "count": 40_000, "flip": False
    }  # fmt: skip
