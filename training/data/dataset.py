"""Training images, read once into one file, which all processes then read."""

import dataclasses
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from difuso.model.conditions import Value, listed, sequences_in

from ..choices import TEACHER
from ..errors import RecipeError, check_classes
from ..recipe import Recipe
from ..replacing import replace_text
from .conditions import (
    Columns,
    columns_of,
    complete_column,
    load_columns,
    open_with_conditions,
    save_columns,
    sequence_columns,
    sequences_of,
    values_of,
)
from .images import ImageArray
from .pairs import Pairs
from .source_images import Source, SourceImage

log = logging.getLogger(__name__)

VALUES, LABELS, LENGTHS, REPORT = "values.npz", "labels.npy", "lengths.npy", "report.json"
PARTS = "parts"  # the folder of what a teacher has drawn so far
IMAGES = "images"  # a file of their bytes, as those of conditions by their names
HELD = 256  # images that a network that sees images is not trained on, or a tenth of them if these are fewer
NO_ROWS = np.empty(0, dtype=np.int64)

Classes = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """All images of a run."""

    images: ImageArray  # uint8, or uint16 if `data.bits` is 16, shape (N, H, W, C); may be mapped from a file
    labels: NDArray[np.int64] | None = None  # class indices, shape (N,), int64; None for a network without classes
    classes: Classes | None = None  # names of the classes; None for a network without classes
    columns: Columns = field(default_factory=dict)  # the conditions of the images, by name
    # indices of the images that are not trained on, int64
    held: NDArray[np.int64] = field(default_factory=NO_ROWS.copy)
    paired: bool = False  # whether a teacher has drawn the images, each from noise of its own, see `pairs.noise_of`

    @cached_property
    def trained(self) -> NDArray[np.int64]:
        """Indices of the images that are trained on."""
        return np.delete(np.arange(len(self.images)), self.held)

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Indices of the images whose conditions samples get: those that are not trained on, or else any."""
        return self.held if len(self.held) else np.random.default_rng(0).permutation(_spread(len(self.images)))


def draw(recipe: Recipe, folder: Path, device: torch.device, *, process: int = 0, processes: int = 1) -> None:
    """Has the teacher of a recipe, if it has one, draw the share of a process in the images for `scan`."""
    if recipe.data.source == TEACHER and not _is_read(recipe, folder):
        Pairs(recipe, device).keep(folder / PARTS, process=process, processes=processes)


def _is_read(recipe: Recipe, folder: Path) -> bool:
    report = folder / REPORT
    return report.is_file() and json.loads(report.read_text("utf-8"))["data"] == _identity(recipe)


def scan(recipe: Recipe, folder: Path) -> None:
    """Reads all images of a recipe into a folder, unless they are there already.

    Files that cannot be read are left out and named in the folder's report.json, which is written last.

    Raises RecipeError if there are no images, or their classes are not those of the recipe.
    """
    if _is_read(recipe, folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).unlink(missing_ok=True)
    source, sequences = open_with_conditions(recipe, folder / PARTS), sequences_in(recipe.conditions)
    found = _Found(recipe)
    items = found.readable(track(source.items, description="reading images", total=source.total))
    with ExitStack() as files:
        names = (IMAGES, *recipe.seen, *sequences)
        opened = [files.enter_context(_bytes_of(folder, name).open("wb")) for name in names]
        for item in items:
            for file, image in zip(opened, item, strict=True):
                file.write(image.tobytes())
    if not found.labels:
        raise RecipeError(f"none of the images can be read, such as {listed([*found.unreadable], 3)}")
    report: dict[str, Any] = {"data": _identity(recipe), "images": len(found.labels), "unreadable": found.unreadable}
    if recipe.num_classes is not None:
        labels, classes = _named(recipe, found, source)
        np.save(folder / LABELS, labels)
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        report["classes"] = Counter()  # classes of a guided model may share a name
        for name, count in zip(classes, counts, strict=False):  # which may end with pairs without a class
            report["classes"][name] += count
    if recipe.conditions:
        save_columns(folder / VALUES, columns := columns_of(recipe.conditions, found.values))
        report["conditions"] = {name: int(column.present.sum()) for name, column in columns.items()}
    if sequences:
        np.save(folder / LENGTHS, lengths := np.array(found.lengths, dtype=np.int64))
        report["conditions"] |= dict(zip(sequences, (lengths > 0).sum(0).tolist(), strict=True))
    if recipe.seen:
        report["held"] = _spread(len(found.labels)).tolist()
    replace_text(folder / REPORT, json.dumps(report, indent=2) + "\n")


def load(recipe: Recipe, folder: Path) -> Dataset:
    """Loads what `scan` has written into a folder."""
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    if report["unreadable"]:
        log.warning(
            "left out %d images that cannot be read, such as %s (%s); %s names them all",
            *(len(report["unreadable"]), *next(iter(report["unreadable"].items())), folder / REPORT),
        )
    named = recipe.num_classes is not None
    of_guided = recipe.data.classes if recipe.guides else ()
    with warnings.catch_warnings():  # nobody writes to them, and a map that could be written to counts as memory
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        seen = {
            name: complete_column(_mapped(folder, name, (report["images"], *shape.hwc)))
            for name, shape in recipe.seen.items()
        }
        padded = [
            _mapped(folder, name, (report["images"], each.most, each.width), np.float32)
            for name, each in sequences_in(recipe.conditions).items()
        ]
        values = load_columns(folder / VALUES, recipe.conditions) if recipe.conditions else {}
        if padded:
            values |= sequence_columns(recipe.conditions, padded, np.load(folder / LENGTHS))
    return Dataset(
        _mapped(
            folder, IMAGES, (report["images"], *recipe.shape.hwc), np.uint8 if recipe.data.bits == 8 else np.uint16
        ),
        np.load(folder / LABELS) if named else None,
        (of_guided or tuple(report["classes"])) if named else None,
        {**values, **seen},
        np.array(report["held"], dtype=np.int64) if seen else NO_ROWS,
        recipe.data.source == TEACHER,
    )


def _bytes_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.bytes"


def _mapped(folder: Path, name: str, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> NDArray[Any]:
    """Returns the images or sequences of a file, which are read when they are used."""
    return np.memmap(_bytes_of(folder, name), dtype, "r", shape=shape)


def _spread(count: int) -> NDArray[np.int64]:
    """Returns the indices of the images that are held out: evenly, because many sets are sorted by class."""
    held = max(1, min(HELD, count // 10))
    return np.arange(held) * count // held


def load_for_training(recipe: Recipe, folder: Path) -> Dataset:
    """Loads the images to train on, as `load` does; raises RecipeError if there are fewer than fill one batch."""
    dataset = load(recipe, folder)
    if len(dataset.trained) < recipe.batch_size:
        raise RecipeError(f"{len(dataset.trained)} images do not fill one batch of {recipe.batch_size}")
    return dataset


def first_images(recipe: Recipe) -> Dataset:
    """Reads the first readable images that fill one batch, and writes nothing; RecipeError if there are fewer."""
    source = open_with_conditions(recipe)
    found = _Found(recipe)
    items = list(islice(found.readable(source.items), recipe.batch_size))
    if len(items) < recipe.batch_size:
        raise RecipeError(f"{len(items)} images do not fill one batch of {recipe.batch_size}")
    labels, classes = (None, None) if recipe.num_classes is None else _named(recipe, found, source)
    images, *files = (np.stack(each) for each in zip(*items, strict=True))
    seen, padded = files[: len(recipe.seen)], files[len(recipe.seen) :]
    columns = columns_of(recipe.conditions, found.values)
    columns |= {name: complete_column(each) for name, each in zip(recipe.seen, seen, strict=True)}
    columns |= sequence_columns(recipe.conditions, padded, np.array(found.lengths, dtype=np.int64))
    return Dataset(images, labels, classes, columns, paired=recipe.data.source == TEACHER)


@dataclass
class _Found:
    """The labels, the values of conditions and the unreadable files of the images of a recipe that a scan has read."""

    recipe: Recipe
    values: list[Mapping[str, Value]] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)  # of the sequences of each
    labels: list[tuple[str, int | None]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def readable(self, items: Iterable[SourceImage]) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yields each image that can be read, with those that the network sees with it, and its padded sequences."""
        for item in items:
            if item.image is None:
                self.unreadable[item.name] = item.reason
            else:
                self.labels.append((item.name, item.label))
                self.values.append(values_of(self.recipe.conditions, item))
                sequences = sequences_of(self.recipe.conditions, item)
                self.lengths.append([len(each) for each in sequences])
                most = [each.most for each in sequences_in(self.recipe.conditions).values()]
                padded = (np.pad(each, ((0, m - len(each)), (0, 0))) for each, m in zip(sequences, most, strict=True))
                yield item.image, *(item.seen[name] for name in self.recipe.seen), *padded


def _named(recipe: Recipe, found: _Found, source: Source) -> tuple[NDArray[np.int64], Classes]:
    """Checks the labels; returns them and the names of the classes."""
    num_classes = recipe.num_classes
    assert num_classes is not None
    classes = source.classes
    if classes is None:
        classes = recipe.data.classes or tuple(str(label) for label in range(num_classes))
    if len(classes) != num_classes:
        raise RecipeError(
            f"network.num_classes is {num_classes}, but the images have {len(classes)} classes: {listed(classes, 10)}"
        )
    if recipe.guides and recipe.data.classes:
        check_classes("the images", classes, "the guided model", recipe.data.classes)
    numbers = {label for _, label in found.labels}
    # That none is 0 is not enough: a part of a set may lack a class.
    first = 1 if source.may_begin_at_1 and 0 not in numbers and num_classes in numbers else 0
    for name, label in found.labels:
        if label is None:
            raise RecipeError(f"{name} has no class: give it a label in the table, or without one a folder")
        if not first <= label < first + num_classes + bool(recipe.data.free):  # whose last one is none
            raise RecipeError(f"{name} has class {label}, but network.num_classes is {num_classes}")
    return np.array([label for _, label in found.labels], dtype=np.int64) - first, classes


def _identity(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings that decide about the images, as JSON gives them back."""
    data = dataclasses.asdict(recipe.data)
    del data["flip"], data["augment"]  # training does this
    shape = {key: getattr(recipe, key) for key in ("image_size", "channels", "num_classes")}
    shape["seen"] = {name: each.hwc for name, each in recipe.seen.items()}
    if recipe.conditions:
        shape["conditions"] = recipe.as_json["conditions"]
    return json.loads(json.dumps(data | shape))
