"""Sets of images to measure are those of the file, folder or sampling function, none left out and none changed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difuso.evaluation.errors import EvaluationError
from difuso.evaluation.image_sets import Half, ImageSet, from_array, from_path
from difuso.training.data.images import ImageArray
from difuso.training.errors import RecipeError

IMAGES: ImageArray = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)


def sizes(images: ImageSet) -> list[int]:
    return [len(batch) for batch in images.batches(3)]


@pytest.mark.parametrize(("compression", "version"), [(zipfile.ZIP_STORED, (1, 0)), (zipfile.ZIP_DEFLATED, (2, 0))])
def test_a_file_of_samples_is_read_as_a_stream(tmp_path: Path, compression: int, version: tuple[int, int]) -> None:
    path = tmp_path / "samples.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        # ADM's files hold labels too.
        arrays: dict[str, np.ndarray[Any, Any]] = {"arr_0": IMAGES, "arr_1": np.arange(7)}
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array, version)
    images = from_path(path)
    assert (images.name, images.count) == ("samples", 7)
    assert sizes(images) == [3, 3, 1]
    assert np.array_equal(images.load(), IMAGES)
    some = from_path(path, 4)
    assert some.count == len(some.load()) == 4
    places = [[np.array_equal(image, each) for each in IMAGES].index(True) for image in some.load()]
    assert places == sorted(places), "in their order"
    assert places != [0, 1, 2, 3], "but not the first, which may be of one class"
    np.savez(path, IMAGES)
    assert np.array_equal(from_path(path).load(), IMAGES)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_refused_however_few_images_are_taken(
    tmp_path: Path, save: Callable[[Path, np.ndarray[Any, Any]], None]
) -> None:
    path = tmp_path / "samples.npz"
    save(path, IMAGES)
    content = bytearray(path.read_bytes())
    content[-200] ^= 1  # in the last images
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"is not an \.npz file with images in arr_0"):
        from_path(path, 1)


def test_what_is_no_file_of_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    with pytest.raises(EvaluationError, match=r"is not an \.npz file with images in arr_0"):
        from_path(path)
    path.write_bytes(b"hello")
    with pytest.raises(EvaluationError, match=r"is not an \.npz file with images in arr_0"):
        from_path(path)
    np.savez(path, mu=np.zeros(3))
    with pytest.raises(EvaluationError, match=r"is not an \.npz file with images in arr_0"):
        from_path(path)
    np.savez(path, IMAGES.astype(np.float32))
    with pytest.raises(EvaluationError, match="holds float32 of shape"):
        from_path(path)
    np.savez(path, IMAGES.transpose(0, 3, 1, 2))
    with pytest.raises(EvaluationError, match=r"it should be uint8, \(N, H, W, 3\)"):
        from_path(path)
    np.savez(path, IMAGES)
    with pytest.raises(EvaluationError, match="holds 7 images, not 8"):
        from_path(path, 8)


def test_a_folder_s_images_come_as_they_are_in_an_order_that_is_no_one_s_class(tmp_path: Path) -> None:
    for i, image in enumerate(IMAGES):
        (tmp_path / f"class-{i // 4}").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"class-{i // 4}" / f"{i}.png")
    images = from_path(tmp_path)
    found = images.load()
    assert sizes(images) == [3, 3, 1]
    assert {image.tobytes() for image in found} == {image.tobytes() for image in IMAGES}
    assert not np.array_equal(found, IMAGES)
    assert np.array_equal(from_path(tmp_path, 4).load(), found[:4])
    with pytest.raises(EvaluationError, match="holds 7 images, not 8"):
        from_path(tmp_path, 8)


def test_grey_and_palette_images_become_coloured(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    Image.new("RGB", (4, 4), (7, 7, 7)).quantize(2).save(tmp_path / "palette.png")
    Image.fromarray(np.full((4, 4), 7 * 257, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (4, 4), (7, 7, 7, 255)).save(tmp_path / "opaque.png")
    assert (from_path(tmp_path).load() == 7).all()
    (tmp_path / "clear").mkdir()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear" / "clear.png")
    assert (from_path(tmp_path / "clear").load() == 255).all(), "white, as in training"
    grey = from_array("grey", IMAGES[..., :1]).load()
    assert grey.shape == IMAGES.shape
    assert (grey == IMAGES[..., :1]).all()


def test_a_folder_with_images_of_two_sizes_or_a_bad_one_is_refused(tmp_path: Path) -> None:
    """What is resized here and not there cannot be compared."""
    with pytest.raises(RecipeError, match="no images below"):
        from_path(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (5, 4)).save(tmp_path / "b.png")
    with pytest.raises(EvaluationError, match=r"holds images of (4x4 and 5x4|5x4 and 4x4): bring them to one size"):
        from_path(tmp_path).load()
    (tmp_path / "b.png").write_bytes(b"hello")
    with pytest.raises(EvaluationError, match=r"b.png cannot be read \(UnidentifiedImageError\)"):
        from_path(tmp_path).load()


def numbered(count: int) -> ImageArray:
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


@pytest.mark.parametrize(("count", "size"), [(0, 3), (2, 1), (7, 4), (40, 100)])
def test_two_halves_are_the_whole_and_share_nothing(count: int, size: int) -> None:
    whole = from_array("all", numbered(count))
    numbers = []
    for half in Half:
        own = [int(image[0, 0, 0]) for batch in half.of(whole).batches(size) for image in batch]
        assert len(own) == half.of(whole).count
        numbers += own
    assert sorted(numbers) == list(range(count))


def test_each_half_holds_all_of_a_set_that_is_sorted_by_class() -> None:
    classes = np.repeat(np.arange(5, dtype=np.uint8), 8)[:, None, None, None].repeat(3, axis=3)
    for half in Half:
        assert np.unique(half.of(from_array("all", classes)).load(), return_counts=True)[1].tolist() == [12] * 5
