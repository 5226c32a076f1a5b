"""Training images, read once into one file, which all processes then read."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from .errors import RecipeError
from .images import ImageArray
from .recipe import Recipe
from .source import SourceImage
from .sources import SOURCES

log = logging.getLogger(__name__)

IMAGES, LABELS, REPORT = "images.npy", "labels.npy", "report.json"

Classes = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """All images of a run.

    Attributes:
        images: uint8, shape (N, H, W, C); may be mapped from a file.
        labels: class indices, shape (N,), int64; None for a network without classes.
        classes: names of the classes; None for a network without classes.
    """

    images: ImageArray
    labels: NDArray[np.int64] | None = None
    classes: Classes | None = None


def scan(recipe: Recipe, folder: Path) -> None:
    """Reads all images of a recipe into a folder, unless they are there already.

    Files that cannot be read are left out and named in the folder's report.json, which is written last.

    Raises:
        RecipeError: if there are no images, or their classes are not those of the recipe.
    """
    wanted = _identity(recipe)
    if (folder / REPORT).is_file() and json.loads((folder / REPORT).read_text("utf-8"))["data"] == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).unlink(missing_ok=True)
    source = SOURCES[recipe.data.source](recipe.data, recipe.image_size, recipe.channels)
    found = _Found()
    items = track(source.items, description="reading images", total=source.total)
    write_images(folder / IMAGES, found.readable(items), (recipe.image_size, recipe.image_size, recipe.channels))
    report: dict[str, Any] = {"data": wanted, "images": len(found.labels), "unreadable": found.unreadable}
    if recipe.num_classes is not None:
        labels, classes = _named(recipe, found, source.classes)
        np.save(folder / LABELS, labels)
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        report["classes"] = dict(zip(classes, counts, strict=True))
    temporary = folder / (REPORT + ".tmp")
    temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / REPORT)


def load(recipe: Recipe, folder: Path) -> Dataset:
    """Loads what `scan` has written into a folder.

    Raises:
        RecipeError: if there are fewer images than fill one batch.
    """
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    if report["unreadable"]:
        log.warning(
            "left out %d images that cannot be read, such as %s (%s); %s names them all",
            *(len(report["unreadable"]), *next(iter(report["unreadable"].items())), folder / REPORT),
        )
    if report["images"] < recipe.batch_size:
        raise RecipeError(f"{report['images']} images do not fill one batch of {recipe.batch_size}")
    images = np.load(folder / IMAGES, mmap_mode="r")
    if recipe.num_classes is None:
        return Dataset(images)
    return Dataset(images, np.load(folder / LABELS), tuple(report["classes"]))


def first_images(recipe: Recipe) -> Dataset:
    """Reads the first readable images of a recipe, as many as fill one batch, and writes nothing.

    Raises:
        RecipeError: if there are fewer.
    """
    source = SOURCES[recipe.data.source](recipe.data, recipe.image_size, recipe.channels)
    found = _Found()
    images = list(islice(found.readable(source.items), recipe.batch_size))
    if len(images) < recipe.batch_size:
        raise RecipeError(f"{len(images)} images do not fill one batch of {recipe.batch_size}")
    if recipe.num_classes is None:
        return Dataset(np.stack(images))
    return Dataset(np.stack(images), *_named(recipe, found, source.classes))


def write_images(path: Path, images: Iterable[ImageArray], shape: tuple[int, int, int]) -> None:
    """Writes images of this shape as one .npy file, shape (N, H, W, C), without ever having more than one in memory."""
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": (0, *shape)}
    count = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for image in images:
            assert image.shape == shape
            assert image.dtype == np.uint8
            file.write(image.tobytes())
            count += 1
        # NumPy leaves room for the number of rows to grow, so that the header can be written again.
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (count, *shape)})
        assert file.tell() == start


@dataclass
class _Found:
    """The labels and unreadable files of the images that a scan has read."""

    labels: list[tuple[str, int | None]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def readable(self, items: Iterable[SourceImage]) -> Iterator[ImageArray]:
        for item in items:
            if item.image is None:
                self.unreadable[item.name] = item.reason
            else:
                self.labels.append((item.name, item.label))
                yield item.image


def _named(recipe: Recipe, found: _Found, classes: Classes | None) -> tuple[NDArray[np.int64], Classes]:
    """Checks the labels; returns them and the names of the classes."""
    num_classes = recipe.num_classes
    assert num_classes is not None
    if classes is None:
        classes = recipe.data.classes or tuple(str(label) for label in range(num_classes))
    if len(classes) != num_classes:
        listed = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
        raise RecipeError(f"network.num_classes is {num_classes}, but the images have {len(classes)} classes: {listed}")
    for name, label in found.labels:
        if label is None:
            raise RecipeError(f"{name} has no class: put it into a folder of its class, or leave out num_classes")
        if not 0 <= label < num_classes:
            raise RecipeError(f"{name} has class {label}, but network.num_classes is {num_classes}")
    return np.array([label for _, label in found.labels], dtype=np.int64), classes


def _identity(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings that decide about the images, as JSON gives them back."""
    data = dataclasses.asdict(recipe.data)
    del data["flip"]  # training does this
    shape = {key: getattr(recipe, key) for key in ("image_size", "channels", "num_classes")}
    return json.loads(json.dumps(data | shape))
