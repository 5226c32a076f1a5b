"""The images that `difuso evaluate` measures: drawn by a model, in folders and .npz files, or those of a recipe.

Those of a model are drawn here or on a server, with the same result for the same parameters and seeds.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from difuso.evaluation.image_sets import ImageSet, from_array, from_path
from difuso.evaluation.real_images import FACES, real_images
from difuso.jobs.params import SamplingParams
from difuso.jobs.per_image import label_in_turn, one_or_several
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import Value
from difuso.training.data.conditions import by_value, complete_column, some_of, values_at
from difuso.training.data.dataset import Dataset, load, scan
from difuso.training.data.images import ImageArray
from difuso.training.recipe import Recipe

from ..errors import UserError, user_errors
from ..options import checked
from .drawing import DrawingModel
from .sampling import write_whole

LABEL = "label"
RUN = re.compile(r"plan:(?P<plan>[^:/]+)|(?P<sampler>[a-z0-9_]+):(?P<steps>\d+)(:(?P<spacing>[a-z0-9,.:]+))?")


class ImageConditions(NamedTuple):
    """The values of the same conditions for each of some images, and the index of its class, if it has one."""

    conditions: Sequence[Mapping[str, Value]] = ()
    labels: Sequence[int] = ()


def conditions_of(recipe: Recipe, real: Dataset, rows: NDArray[np.int64]) -> ImageConditions:
    """Returns the values of conditions, and the classes, of some of a recipe's real images."""
    conditions = by_value(recipe.conditions)
    labels = real.columns[LABEL].values.numpy()[rows].tolist() if LABEL in real.columns else []
    return ImageConditions([values_at(conditions, real.columns, row) for row in rows] if conditions else [], labels)


@contextmanager
def passing_folder(out: Path) -> Iterator[Path]:
    """Yields a new folder below another one, and removes it. Images that are mapped from its files stay.

    The images of a recipe, and the table of their conditions, may change from one command to the next.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".real-", dir=out) as folder:
        yield Path(folder)


def real_images_of(recipe: Recipe, folder: Path, *, split: Literal["train", "test"], faces: int) -> Dataset:
    """Reads real images of a recipe, with their conditions; nine tenths, or a tenth, of a set without two halves.

    Images of `test` were seen by no run of the recipe if the set has a test half, or reserves images.

    Args:
        folder: the folder for what is read, see `passing_folder`; a second call with it reads a set only once.
        faces: the number of faces that are drawn, where the recipe draws them.
    """
    has_others = recipe.data.source in (FACES, "idx") or recipe.data.reserved > 0
    read: Literal["train", "test"] = split if has_others else "train"
    data = replace(recipe.data, split=read)
    if data.source == FACES:
        data = replace(data, count=faces)
    plain = replace(recipe, data=data, condition=None, conditions=by_value(recipe.conditions))
    scan(plain, folder / read)
    found = load(plain, folder / read)
    labels = {} if found.labels is None else {LABEL: complete_column(found.labels)}
    whole = replace(found, columns={**found.columns, **labels})
    if has_others:
        return whole
    order = np.random.default_rng(0).permutation(len(whole.images))
    held = len(order) // 10
    rows = np.sort(order[:held] if split == "test" else order[held:])
    return replace(whole, images=whole.images[rows], columns=some_of(whole.columns, rows))


class SampledImages:
    """The images of one model with some parameters; a `draw` function for an `evaluation.image_sets.ImageSet`.

    They are kept as PNGs named by seed, so that an interrupted command resumes and a later one reuses them.

    Args:
        model: the model and the place where it draws.
        params: parameters of each image, with one seed; image i has seed params.seed + i.
        root: folder for all settings; these get one of their own, named after the model's version and the parameters.
        labels: class indices; the image of seed s gets number s modulo their count. Empty: all get params.label.
        conditions: the values of the same conditions for each image. Empty: all get those of params.
    """

    def __init__(
        self,
        model: DrawingModel,
        params: SamplingParams,
        root: Path,
        *,
        labels: Sequence[int] = (),
        conditions: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        self._model = model
        self._labels = labels
        self._conditions = conditions
        self.params = params.model_copy(update={"n": 1})
        way = params.model_dump(mode="json", exclude={"n", "seed", "label"}) | {"labels": list(labels) or params.label}
        if conditions:
            way |= {"conditions": [dict(each) for each in conditions], "seed": params.seed}
        self.facts = {"model": model.name, "version": model.loaded.version, **way}
        digest = hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest()
        name = f"{params.sampler}-{params.spacing.partition(':')[0]}-{params.steps}-{digest[:8]}"
        precision = "" if model.loaded.precision == "float32" else f"-{model.loaded.precision}"
        self.folder = root / f"{model.name}-{model.loaded.version[:8]}{precision}" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "parameters.json", (json.dumps(self.facts, indent=2) + "\n").encode())

    def __call__(self, first: int, count: int) -> ImageArray:
        """Images `first` to `first + count - 1`, uint8 of shape (count, H, W, 3)."""
        numbers = range(first, first + count)
        self.make(numbers)
        return np.stack([np.asarray(Image.open(self._path(i)).convert("RGB")) for i in numbers])

    def all(self, count: int, report: Callable[[float], None]) -> ImageArray:
        """The first images, as above; `report` is called with the share of them that is drawn."""
        ahead = self._model.loaded.ahead
        for first in range(0, count, ahead):
            self.make(range(first, min(first + ahead, count)))
            report(min(first + ahead, count) / count)
        return self(0, count)

    def make(self, numbers: Iterable[int]) -> None:
        """Draws those of the images with these numbers that are missing."""
        missing = [i for i in numbers if not self._path(i).exists()]
        size = self._model.loaded.together
        batches = [missing[begin : begin + size] for begin in range(0, len(missing), size)]

        def keep(number: int, pngs: Sequence[bytes]) -> None:
            for i, png in zip(batches[number], pngs, strict=True):
                write_whole(self._path(i), png)

        self._model.draw(map(self._run, batches), keep)

    def _path(self, index: int) -> Path:
        return self.folder / f"{self.params.seed_of(index)}.png"

    def _run(self, batch: Sequence[int]) -> SamplingParams:
        seeds = [self.params.seed_of(i) for i in batch]
        label = label_in_turn(self._labels, seeds) if self._labels else self.params.label
        own: dict[str, Any] = {"n": len(batch), "seed": one_or_several(seeds), "label": label}
        if self._conditions:
            own["conditions"] = {name: tuple(self._conditions[i][name] for i in batch) for name in self._conditions[0]}
        return self.params.model_copy(update=own)


@dataclass(frozen=True, kw_only=True)
class ImageSources:
    """Opens images by their names on the command line."""

    # finds the model, which is loaded only if it must draw images; raises UserError if it does not exist
    find: Callable[[], DrawingModel]
    seed: int  # seed of the first image that the model draws
    # the settings of all samplers, in addition to those that a name holds; the others are the model's
    chosen: Mapping[str, Any]
    folder: Path  # folder for the images that the model draws
    networks: Collection[str]  # the modules of other packages whose sources a recipe may name
    device: str  # the device that computes features

    @cached_property
    def model(self) -> DrawingModel:
        """The model."""
        return self.find()

    @property
    def default(self) -> str:
        """The default settings of the model, as SAMPLER:STEPS:SPACING."""
        defaults = self.model.defaults
        return f"{defaults.sampler}:{defaults.steps}:{defaults.spacing}"

    def open(self, source: str, count: int | None, *, least: int, given: ImageConditions | None = None) -> ImageSet:
        """Opens images: SAMPLER:STEPS[:SPACING] or plan:NAME draws them with the model; else a folder or an .npz file.

        Args:
            count: number of images; None means all of a folder or file, and `least` if they must be drawn.
            given: the conditions of each image; without them the classes take turns, so that each is drawn as often.

        Raises:
            UserError: if the model cannot draw with these settings.
            ModelError: if the checkpoint cannot be used.
            RecipeError, EvaluationError: if there is no such folder or file, or it holds too few images.
        """
        run = RUN.fullmatch(source)
        if run is None:
            return from_path(Path(source), count)
        model, total = self.model, count or least
        if model.shape.planes > 1:
            raise UserError(
                f"figures are of grey or RGB images, and {model.name} makes {model.shape.channels} channels"
            )
        classes = len(model.class_names or ())
        in_turn = ImageConditions(labels=[(self.seed + i) % classes for i in range(classes)])
        images = self.sampled(run[0], run.groupdict(), given or in_turn)
        params = images.params

        def draw(first: int, size: int) -> ImageArray:
            begin = first - first % model.loaded.ahead
            images.make(range(begin, min(begin + model.loaded.ahead, total)))
            return images(first, size)

        noisy = f", eta {params.eta:g}" if params.eta else ""
        guided = "" if params.guidance.scale == 1 else f", guidance {params.guidance}"
        precision = model.loaded.precision
        otherwise = "" if precision == "float32" else f", {precision}"
        name = f"{model.name} {params.sampler} {params.spacing} {params.steps}{noisy}{guided}{otherwise}"
        return ImageSet(name, total, draw, drawn_by=images.facts)

    def real(self, data: str, count: int | None, *, split: str = "test", first: int = 0) -> ImageSet:
        """Opens the images of an .npz file in their own size, or those of `real_images` in the model's size.

        Args:
            count: number of images, of a file; largest number of others; None takes all.
            split, first: see `real_images`.
        """
        if data.endswith(".npz"):
            return from_path(Path(data), count)
        model = self.model
        images = real_images(data, count, shape=model.shape, split=split, first=first, networks=self.networks)
        return from_array(f"{'other ' if first else ''}drawn faces" if data == FACES else Path(data).name, images)

    def sampled(self, title: str, settings: Mapping[str, Any], given: ImageConditions) -> SampledImages:
        """Returns images that the model draws.

        Args:
            title: what stands before the message of a UserError.
            settings: the settings of the sampler that are not the model's own.
            given: the conditions of each image.

        Raises UserError if the model does not take these settings or conditions.
        """
        model = self.model
        if missing := model.needed_images:
            raise UserError(f"{title}: {model.name} needs images, {', '.join(missing)}, and cannot be measured")
        conditions = {name: (value,) for name, value in given.conditions[0].items()} if given.conditions else None
        label = model.class_names[0] if model.class_names else None  # any will do here; each image gets its own
        sent = {**settings, "condition": conditions, "seed": self.seed, "label": label, **self.chosen}
        query = checked(SamplingQuery, {key: value for key, value in sent.items() if value is not None}, str)
        with user_errors(title):
            params = model.settle(query)
        # The image of seed s gets label s modulo their count.
        labels = np.roll(given.labels, self.seed).tolist()
        return SampledImages(model, params, self.folder, labels=labels, conditions=given.conditions)
