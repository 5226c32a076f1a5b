"""Images come from any of the usual places with the pixels and the classes that they have there."""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from difuso.model.shape import Shape
from difuso.training.choices import SourceName
from difuso.training.data.images import ImageArray
from difuso.training.data.source_images import SourceImage, open_source
from difuso.training.errors import RecipeError
from difuso.training.recipe import Data
from tests.image_files import png_of, write_folder, write_zip

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def read(source: SourceName, path: Path | str, **options: str) -> tuple[list[SourceImage], tuple[str, ...] | None]:
    opened = open_source(Data(source=source, path=str(path), **options), Shape.of(8, 3))  # type: ignore[arg-type]
    items = list(opened.items)
    assert opened.total in (None, len(items))
    return items, opened.classes


def assert_pixels(items: list[SourceImage], expected: ImageArray = PIXELS) -> None:
    assert len(items) == len(expected)
    for item, pixels in zip(items, expected, strict=True):
        assert item.image is not None
        assert np.array_equal(item.image, pixels), item.name


FILES = {
    "cat/0.png": png_of(PIXELS[0]),
    "cat/1.png": png_of(PIXELS[1]),
    "dog/deep.PNG": png_of(PIXELS[2]),
    "dog/x.txt": b"no",
}


def test_folders_of_classes(tmp_path: Path) -> None:
    items, classes = read("folder", write_folder(tmp_path, FILES))
    assert classes == ("cat", "dog")
    assert [item.label for item in items] == [0, 0, 1]
    assert_pixels(items)


def test_a_folder_without_classes(tmp_path: Path) -> None:
    items, classes = read("folder", write_folder(tmp_path, {f"{i}.png": png_of(PIXELS[i]) for i in range(3)}))
    assert classes is None
    assert [item.label for item in items] == [None] * 3
    assert_pixels(items)


def test_a_zip_archive_with_a_folder_around_its_classes(tmp_path: Path) -> None:
    files = {f"EuroSAT/{name}": content for name, content in FILES.items()}
    items, classes = read("zip", write_zip(tmp_path / "a.zip", files | {"__MACOSX/cat/._0.png": b"not a picture"}))
    assert classes == ("cat", "dog")
    assert [item.label for item in items] == [0, 0, 1]
    assert_pixels(items)


def test_an_archive_has_the_order_of_the_folder_that_it_was_made_from(tmp_path: Path) -> None:
    """Images and their maps are paired in order; as text "a-b/" comes before "a/"."""
    files = dict(zip(("a/1.png", "a-b/1.png", "c/1.png"), map(png_of, PIXELS), strict=True))
    in_folder, _ = read("folder", write_folder(tmp_path / "a", files))
    for prefix in ("", "./"):
        archive = write_zip(tmp_path / "a.zip", {prefix + name: content for name, content in files.items()})
        in_archive, _ = read("zip", archive)
        assert [item.name for item in in_archive] == [item.name for item in in_folder]
        assert_pixels(in_archive)


@pytest.mark.parametrize("source", ["folder", "zip"])
def test_a_damaged_picture_is_an_item_with_its_reason(tmp_path: Path, source: SourceName) -> None:
    files = FILES | {"cat/torn.png": png_of(PIXELS[0])[:60], "dog/empty.png": b""}
    path = write_folder(tmp_path, files) if source == "folder" else write_zip(tmp_path / "a.zip", files)
    items, _ = read(source, path)
    bad = {item.name: item.reason for item in items if item.image is None}
    assert bad.keys() == {"cat/torn.png", "dog/empty.png"}
    assert all(bad.values())
    assert len(items) == 5


def test_imagenet_64_stores_channels_first(tmp_path: Path) -> None:
    flat = PIXELS.transpose(0, 3, 1, 2).reshape(3, -1)
    np.savez(tmp_path / "train_data_batch_10.npz", data=flat[2:], labels=[5], mean=np.zeros(192))
    np.savez(tmp_path / "train_data_batch_2.npz", data=flat[:2], labels=[1, 7], mean=np.zeros(192))
    items, classes = read("npz", tmp_path)
    assert classes is None
    assert [item.label for item in items] == [1, 7, 5]
    assert_pixels(items)


def test_a_sample_file_of_adm(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", PIXELS, np.array([0, 3, 2]))
    items, _ = read("npz", tmp_path / "samples.npz")
    assert [item.label for item in items] == [0, 3, 2]
    assert_pixels(items)
    np.savez(tmp_path / "unlabelled.npz", PIXELS)
    items, _ = read("npz", tmp_path / "unlabelled.npz")
    assert [item.label for item in items] == [None] * 3


def idx(magic: int, shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">{1 + len(shape)}I", magic, *shape) + content


@pytest.mark.parametrize("compressed", [True, False])
def test_idx_files_are_padded_and_have_splits(tmp_path: Path, compressed: bool) -> None:
    grey = PIXELS[..., 0][:, :6, :5].copy()
    files = {
        "images-idx3-ubyte": idx(0x803, grey.shape, grey.tobytes()),
        "labels-idx1-ubyte": idx(0x801, (3,), b"\0\7\3"),
    }
    for name, content in files.items():
        packed = gzip.compress(content) if compressed else content
        (tmp_path / f"t10k-{name}{'.gz' if compressed else ''}").write_bytes(packed)
    items, classes = read("idx", tmp_path, split="test")
    assert classes is None
    assert [item.label for item in items] == [0, 7, 3]
    expected = np.zeros_like(PIXELS)
    expected[:, 1:7, 1:6] = grey[..., None]
    assert_pixels(items, expected)
    with pytest.raises(RecipeError, match=r"data\.split must be train or test, not validation"):
        read("idx", tmp_path, split="validation")
    with pytest.raises(RecipeError, match="lacks train-images-idx3-ubyte"):
        read("idx", tmp_path)


@pytest.mark.slow
def test_a_hugging_face_set_on_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    columns = {
        "picture": [{"bytes": content, "path": None} for content in (*map(png_of, PIXELS), b"torn")] + [None],
        "kind": [1, 0, -1, 1, None],
    }
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": made, "test": made.select([0])}).save_to_disk(tmp_path / "set")
    items, classes = read("huggingface", tmp_path / "set")
    assert classes == ("no", "yes")
    assert [item.label for item in items] == [1, 0, None, 1, None]
    assert [item.values["kind"] for item in items] == ["yes", "no", None, "yes", None]
    assert_pixels(items[:3])
    assert [item.image for item in items[3:]] == [None, None]
    assert "UnidentifiedImageError" in items[3].reason
    assert len(read("huggingface", tmp_path / "set", split="test")[0]) == 1
    made.remove_columns("picture").save_to_disk(tmp_path / "bare")
    with pytest.raises(RecipeError, match="no column of images: its columns are kind"):
        read("huggingface", tmp_path / "bare")


def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", pictures=PIXELS)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "no image")
    np.savez(tmp_path / "large.npz", arr_0=np.zeros((1, 9, 9, 3), np.uint8))
    np.savez(tmp_path / "float.npz", arr_0=np.zeros((1, 8, 8, 3)))
    np.savez(tmp_path / "short.npz", arr_0=PIXELS, arr_1=[1])
    np.savez(tmp_path / "pickled.npz", arr_0=np.array([{}], dtype=object))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:99])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(0x801, (1, 8, 8), bytes(64)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "void.npz").touch()
    (tmp_path / "torn").mkdir()
    torn = gzip.compress(np.random.default_rng(0).bytes(999))
    (tmp_path / "torn" / "train-images-idx3-ubyte.gz").write_bytes(torn[:300] + b"!" * 99 + torn[399:])
    cases: list[tuple[SourceName, str, str]] = [
        ("zip", "torn.npz", "cannot be read as a zip archive"),
        ("zip", "empty.zip", "there are no images in"),
        ("npz", "empty", "there are no .npz files"),
        ("npz", "torn.npz", "cannot be read as .npz"),
        ("npz", "void.npz", "cannot be read as .npz"),
        ("npz", "other.npz", "holds pictures: its images must be in data or arr_0"),
        ("npz", "large.npz", r"images of shape \(9, 9, 3\), the recipe wants \(8, 8, 3\)"),
        ("npz", "float.npz", "must be uint8, or uint16 with data.bits = 16, got float64"),
        ("npz", "short.npz", "3 images and 1 labels"),
        ("npz", "pickled.npz", "cannot be read as .npz"),
        ("idx", "", "cannot be read as IDX: it begins with 0x801"),
        ("idx", "torn", "cannot be read as IDX"),
    ]
    for source, name, message in cases:
        with pytest.raises(RecipeError, match=message):
            read(source, tmp_path / name)
