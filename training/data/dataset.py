"""Training images, read once into one file, which all processes then read."""

import dataclasses
import json
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from difuso.model.conditions import Value, listed

from ..errors import RecipeError
from ..recipe import ENLARGED, Recipe
from ..replacing import replace_text
from .conditions import (
    Columns,
    columns_of,
    complete_column,
    load_columns,
    open_with_conditions,
    save_columns,
    values_of,
)
from .images import ImageArray
from .source_images import Source, SourceImage

log = logging.getLogger(__name__)

IMAGES, CONDITIONS, VALUES, LABELS, REPORT = "images.npy", "conditions.npy", "values.npz", "labels.npy", "report.json"
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

    @cached_property
    def trained(self) -> NDArray[np.int64]:
        """Indices of the images that are trained on."""
        return np.delete(np.arange(len(self.images)), self.held)

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Indices of the images whose conditions samples get: those that are not trained on, or else any."""
        return self.held if len(self.held) else np.random.default_rng(0).permutation(_spread(len(self.images)))


def scan(recipe: Recipe, folder: Path) -> None:
    """Reads all images of a recipe into a folder, unless they are there already.

    Files that cannot be read are left out and named in the folder's report.json, which is written last.

    Raises RecipeError if there are no images, or their classes are not those of the recipe.
    """
    wanted = _identity(recipe)
    if (folder / REPORT).is_file() and json.loads((folder / REPORT).read_text("utf-8"))["data"] == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).unlink(missing_ok=True)
    source = open_with_conditions(recipe)
    found = _Found(recipe)
    items = found.readable(track(source.items, description="reading images", total=source.total))
    with ExitStack() as files:
        keep = [
            files.enter_context(growing(folder / name, shape, bits=recipe.data.bits))
            for name, shape in _shapes(recipe).items()
        ]
        for item in items:
            for write, image in zip(keep, item, strict=True):
                write(image)
    report: dict[str, Any] = {"data": wanted, "images": len(found.labels), "unreadable": found.unreadable}
    if recipe.num_classes is not None:
        labels, classes = _named(recipe, found, source)
        np.save(folder / LABELS, labels)
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        report["classes"] = Counter()  # classes of a guided model may share a name
        for name, count in zip(classes, counts, strict=True):
            report["classes"][name] += count
    if recipe.conditions:
        save_columns(folder / VALUES, columns := columns_of(recipe.conditions, found.values))
        report["conditions"] = {name: int(column.present.sum()) for name, column in columns.items()}
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
        seen = {name: complete_column(np.load(folder / _file_of(name), mmap_mode="r")) for name in recipe.seen}
    values = load_columns(folder / VALUES, recipe.conditions) if recipe.conditions else {}
    return Dataset(
        np.load(folder / IMAGES, mmap_mode="r"),
        np.load(folder / LABELS) if named else None,
        (of_guided or tuple(report["classes"])) if named else None,
        {**values, **seen},
        np.array(report["held"], dtype=np.int64) if seen else NO_ROWS,
    )


def _spread(count: int) -> NDArray[np.int64]:
    """Returns the indices of the images that are held out: evenly, because many sets are sorted by class."""
    held = max(1, min(HELD, count // 10))
    return np.arange(held) * count // held


def load_for_training(recipe: Recipe, folder: Path) -> Dataset:
    """Loads the images to train on, as `load` does.

    Raises RecipeError if there are fewer images than fill one batch.
    """
    dataset = load(recipe, folder)
    if len(dataset.trained) < recipe.batch_size:
        raise RecipeError(f"{len(dataset.trained)} images do not fill one batch of {recipe.batch_size}")
    return dataset


def first_images(recipe: Recipe) -> Dataset:
    """Reads the first readable images of a recipe, as many as fill one batch, and writes nothing.

    Raises RecipeError if there are fewer.
    """
    source = open_with_conditions(recipe)
    found = _Found(recipe)
    items = list(islice(found.readable(source.items), recipe.batch_size))
    if len(items) < recipe.batch_size:
        raise RecipeError(f"{len(items)} images do not fill one batch of {recipe.batch_size}")
    labels, classes = (None, None) if recipe.num_classes is None else _named(recipe, found, source)
    images, *seen = (np.stack(each) for each in zip(*items, strict=True))
    columns = columns_of(recipe.conditions, found.values)
    columns |= {name: complete_column(each) for name, each in zip(recipe.seen, seen, strict=True)}
    return Dataset(images, labels, classes, columns)


@contextmanager
def growing(path: Path, shape: tuple[int, int, int], *, bits: int) -> Iterator[Callable[[ImageArray], None]]:
    """Opens a new .npy file of images of this shape (H, W, C); yields the function that appends one.

    Args:
        bits: 8 for uint8, 16 for uint16.
    """
    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    descr = np.lib.format.dtype_to_descr(dtype)
    header: dict[str, Any] = {"descr": descr, "fortran_order": False, "shape": (0, *shape)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()

        def append(image: ImageArray) -> None:
            assert image.shape == shape
            assert image.dtype == dtype
            file.write(image.tobytes())

        yield append
        count = (file.tell() - start) // (dtype.itemsize * math.prod(shape))
        # NumPy leaves room for the number of rows to grow, so that the header can be written again.
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (count, *shape)})
        assert file.tell() == start


def _shapes(recipe: Recipe) -> dict[str, tuple[int, int, int]]:
    """Returns the files of the images, and of those that the network sees with them, with their shapes (H, W, C)."""
    return {IMAGES: recipe.shape.hwc, **{_file_of(name): shape.hwc for name, shape in recipe.seen.items()}}


def _file_of(condition: str) -> str:
    return CONDITIONS if condition == ENLARGED else f"condition-{condition}.npy"


@dataclass
class _Found:
    """The labels, the values of conditions and the unreadable files of the images of a recipe that a scan has read."""

    recipe: Recipe
    values: list[Mapping[str, Value]] = field(default_factory=list)
    labels: list[tuple[str, int | None]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def readable(self, items: Iterable[SourceImage]) -> Iterator[tuple[ImageArray, ...]]:
        """Yields each image that can be read, with those that the network sees with it."""
        for item in items:
            if item.image is None:
                self.unreadable[item.name] = item.reason
            else:
                self.labels.append((item.name, item.label))
                self.values.append(values_of(self.recipe.conditions, item))
                yield item.image, *(item.seen[name] for name in self.recipe.seen)


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
    if recipe.guides and recipe.data.classes not in ((), classes):
        raise RecipeError(
            f"the images have the classes {listed(classes, 10)}, but the guided model has "
            f"{listed(recipe.data.classes, 10)}: they must be the same, in the same order"
        )
    numbers = {label for _, label in found.labels}
    # That none is 0 is not enough: a part of a set may lack a class.
    first = 1 if source.may_begin_at_1 and 0 not in numbers and num_classes in numbers else 0
    for name, label in found.labels:
        if label is None:
            raise RecipeError(f"{name} has no class: give it a label in the table, or without one a folder")
        if not first <= label < first + num_classes:
            raise RecipeError(f"{name} has class {label}, but network.num_classes is {num_classes}")
    return np.array([label for _, label in found.labels], dtype=np.int64) - first, classes


def _identity(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings that decide about the images, as JSON gives them back."""
    data = dataclasses.asdict(recipe.data)
    del data["flip"]  # training does this
    shape = {key: getattr(recipe, key) for key in ("image_size", "channels", "num_classes")}
    if recipe.condition is None:
        del data["condition_path"]
    else:
        shape |= {"condition": _shapes(recipe)[CONDITIONS], "held": HELD}
    if recipe.conditions:
        shape["conditions"] = recipe.as_json["conditions"]
    return json.loads(json.dumps(data | shape))
