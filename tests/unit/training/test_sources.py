"""Sources yield the images of their files, and keep the reserved ones from every run."""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from difuso.evaluation.real_images import real_images
from difuso.model.shape import Shape
from difuso.training.choices import SourceName
from difuso.training.data.dataset import load_for_training, scan
from difuso.training.data.image_files import of_split
from difuso.training.data.images import ImageArray
from difuso.training.data.source_images import SourceImage, open_source
from difuso.training.errors import RecipeError
from difuso.training.recipe import Data, Recipe
from difuso.training.recipe_reading import load_recipe
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


COUNT, RESERVED = 40, 12
KINDS = ("cat", "dog")
NAMES = [f"{KINDS[i % 2]}/{KINDS[i % 2]}_{i}.png" for i in range(COUNT)]


CONTENT = {name: png_of(np.full((8, 8, 3), i, np.uint8)) for i, name in enumerate(NAMES)}


def shades(source: SourceName, path: Path, *, split: str = "train", reserved: int = RESERVED) -> list[int]:
    data = Data(source=source, path=str(path), split=split, reserved=reserved)
    images = [item.image for item in open_source(data, Shape.of(8, 3)).items]
    return [int(image[0, 0, 0]) for image in images if image is not None]


def recipe(path: Path, *changes: str) -> Recipe:
    given = ("image_size=8", "network.channel_mult=[1]", "batch_size=2", f"data.reserved={RESERVED}")
    return load_recipe("smoke", ["data.source=zip", f"data.path={path}", *given, *changes])


def test_no_reserved_image_is_trained_on(tmp_path: Path) -> None:
    """The array that a run reads holds none, and what evaluation compares with holds nothing else."""
    mine = recipe(write_zip(tmp_path / "a.zip", CONTENT))
    scan(mine, tmp_path / "data")
    trained = set(load_for_training(mine, tmp_path / "data").images[:, 0, 0, 0].tolist())
    text = (
        '[data]\nsource = "zip"\npath = "{}"\nreserved = {}\n[network]\nchannels = 16\ngroups = 8\nhead_channels = 16\n'
    )
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nimage_size = 8\n' + text.format(tmp_path / "a.zip", RESERVED), "utf-8")
    held_out = set(real_images(str(file), None, shape=Shape.of(8, 3))[:, 0, 0, 0].tolist())
    assert len(held_out) == RESERVED
    assert len(trained) == COUNT - RESERVED
    assert not trained & held_out
    assert set(real_images(str(file), None, shape=Shape.of(8, 3), split="train")[:, 0, 0, 0].tolist()) == trained


def test_the_choice_follows_from_the_names_alone(tmp_path: Path) -> None:
    """Neither the order of the files, nor the folder around them, nor the source that reads them decides."""
    expected = sorted(shades("zip", write_zip(tmp_path / "a.zip", CONTENT), split="test"))
    assert len(expected) == RESERVED
    assert (
        sorted(
            shades("zip", write_zip(tmp_path / "b.zip", {name: CONTENT[name] for name in NAMES[::-1]}), split="test")
        )
        == expected
    )
    assert (
        sorted(
            shades("zip", write_zip(tmp_path / "c.zip", {f"Set/{name}": CONTENT[name] for name in NAMES}), split="test")
        )
        == expected
    )
    assert sorted(shades("folder", write_folder(tmp_path / "d", CONTENT), split="test")) == expected
    backwards = of_split([PurePosixPath(name) for name in NAMES[::-1]], Data(split="test", reserved=RESERVED))
    assert sorted(NAMES.index(str(name)) for name in backwards) == expected


def test_these_names_are_reserved_for_ever() -> None:
    """Models are measured on them years after their training: the rule must not change."""
    reserved = of_split(
        [PurePosixPath(f"Forest/Forest_{i}.jpg") for i in range(1, 201)], Data(split="test", reserved=4)
    )
    assert [name.stem for name in reserved] == ["Forest_23", "Forest_66", "Forest_144", "Forest_191"]


def test_the_halves_together_are_the_whole_and_have_all_its_classes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", CONTENT)
    whole = shades("zip", path, reserved=0)
    assert sorted(shades("zip", path) + shades("zip", path, split="test")) == sorted(whole)
    few = Data(source="zip", path=str(path), split="test", reserved=1)
    assert open_source(few, Shape.of(8, 3)).classes == KINDS


def test_files_of_one_name_are_as_many_as_asked_for() -> None:
    names = [PurePosixPath(f"{kind}/{i}.png") for kind in "abc" for i in range(10)]
    reserved = of_split(names, Data(split="test", reserved=7))
    assert len(reserved) == 7
    arrays = of_split([name.with_suffix(".npy") for name in names], Data(split="test", reserved=7))
    assert arrays == [name.with_suffix(".npy") for name in reserved]  # so images and their conditions go together


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds 40 images: data\.reserved must be less, not 40"):
        shades("zip", write_zip(tmp_path / "a.zip", CONTENT), reserved=COUNT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.reserved=-1", "data.reserved: Input should be greater than or equal to 0, got -1"),
        ("data.source=npz", "data.reserved is for images with names of their own, of folder, zip, not npz"),
        ("data.split=validation", "data.split must be train or test, not validation"),
        ("data.split=test", "data.split test are the reserved images, which no run sees"),
    ],
)
def test_recipes_that_cannot_reserve_are_refused(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path / "a.zip", change)
