"""All images of a recipe are read once; what cannot be read is named, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difuso.training.data import dataset
from difuso.training.data.dataset import Dataset, first_images, load_for_training, scan
from difuso.training.errors import RecipeError
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe


def recipe(path: Path, *changes: str) -> Recipe:
    given = ("data.source=folder", f"data.path={path}", "image_size=8", "network.channel_mult=[1]", "batch_size=2")
    return load_recipe("smoke", [*given, *changes])


LABELLED = ("network.num_classes=2", "label_drop=0.1")


def scanned(it: Recipe, cache: Path) -> Dataset:
    scan(it, cache)
    return load_for_training(it, cache)


def report(cache: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((cache / "report.json").read_text("utf-8"))
    return content


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two cats and a dog, and two files that are no pictures."""
    folder = tmp_path / "pictures"
    for i, name in enumerate(("cat/a.png", "cat/b.png", "dog/c.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(path)
    (folder / "cat/torn.png").write_bytes((folder / "cat/a.png").read_bytes()[:40])
    (folder / "dog/empty.jpg").write_bytes(b"")
    return folder


def test_unreadable_files_are_quarantined_with_a_report(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad file among thousands must not end a run, nor stay unknown."""
    found = scanned(recipe(pictures), tmp_path / "cache")
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert found.labels is None
    assert found.classes is None
    said = report(tmp_path / "cache")
    assert said["images"] == 3
    assert said["unreadable"].keys() == {"cat/torn.png", "dog/empty.jpg"}
    assert "left out 2 images that cannot be read, such as cat/torn.png" in caplog.text


def test_classes_are_named_and_counted(pictures: Path, tmp_path: Path) -> None:
    found = scanned(recipe(pictures, *LABELLED), tmp_path / "cache")
    assert found.classes == ("cat", "dog")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 1]
    assert report(tmp_path / "cache")["classes"] == {"cat": 2, "dog": 1}


def test_images_are_read_once_and_again_only_if_others_are_wanted(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = recipe(pictures)
    first = scanned(it, tmp_path / "cache")
    (pictures / "dog/d.png").write_bytes((pictures / "cat/a.png").read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr(dataset, "open_with_conditions", None)
        assert np.array_equal(scanned(it, tmp_path / "cache").images, first.images)
    assert scanned(recipe(pictures, "image_size=4"), tmp_path / "cache").images.shape == (4, 4, 4, 3)


def test_an_interrupted_scan_begins_again(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dataset, "_named", killed)
        with pytest.raises(KeyboardInterrupt):
            scan(recipe(pictures, *LABELLED), tmp_path / "cache")
    assert scanned(recipe(pictures, *LABELLED), tmp_path / "cache").labels is not None


def test_sets_that_do_not_fit_are_refused_with_what_to_do(pictures: Path, tmp_path: Path) -> None:
    cases = [
        (recipe(tmp_path / "nosuch"), "there are no images below"),
        (recipe(pictures, "batch_size=4"), "3 images do not fill one batch of 4"),
        (recipe(pictures, "network.num_classes=3", "label_drop=0.1"), "num_classes is 3, but .* 2 classes: cat, dog"),
    ]
    for i, (it, message) in enumerate(cases):
        with pytest.raises(RecipeError, match=message):
            scanned(it, tmp_path / f"cache-{i}")
        with pytest.raises(RecipeError, match=message):
            first_images(it)
    Image.new("RGB", (8, 8)).save(pictures / "stray.png")
    with pytest.raises(RecipeError, match=r"stray\.png has no class"):
        scan(recipe(pictures, *LABELLED), tmp_path / "cache")


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((3, 8, 8, 3), np.uint8), [0, 1, 2])
    it = recipe(tmp_path / "a.npz", "data.source=npz", *LABELLED)
    with pytest.raises(RecipeError, match=r"a\.npz\[2\] has class 2, but network\.num_classes is 2"):
        scan(it, tmp_path / "cache")


@pytest.mark.parametrize(
    ("labels", "classes"), [((1, 3, 2), [0, 2, 1]), ((1, 2, 1), [1, 2, 1]), ((0, 2, 1), [0, 2, 1])]
)
def test_labels_begin_at_0_or_as_those_of_imagenet_64_at_1(
    labels: tuple[int, ...], classes: list[int], tmp_path: Path
) -> None:
    """A part of a set that lacks class 0 still begins there."""
    np.savez(tmp_path / "a.npz", np.zeros((3, 8, 8, 3), np.uint8), labels)
    found = scanned(recipe(tmp_path / "a.npz", "data.source=npz", "network.num_classes=3", "label_drop=0.1"), tmp_path)
    assert found.labels is not None
    assert found.labels.tolist() == classes


def test_a_look_at_the_first_images_writes_nothing(pictures: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = first_images(recipe(pictures, *LABELLED))
    assert found.images[:, 0, 0, 0].tolist() == [0, 1]
    assert found.classes == ("cat", "dog")
    assert sorted(tmp_path.rglob("*")) == before
