"""The images that `difuso evaluate` measures: drawn by a model, in folders and .npz files, or those of a recipe.

Those of a model are drawn here or on a server, with the same result for the same parameters and seeds.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from difuso.evaluation.image_sets import ImageSet, from_array, from_path
from difuso.evaluation.real_images import FACES, real_images
from difuso.jobs.images.sequences import fit_sequence
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import Value, sequences_in
from difuso.training.data.conditions import by_value, complete_column, some_of, values_at
from difuso.training.data.dataset import Dataset, load, scan
from difuso.training.recipe import Recipe

from ..errors import UserError, user_errors
from ..options import checked
from .bulk import Bulk, draw_file
from .drawing import DrawingModel

LABEL = "label"
RUN = re.compile(r"plan:(?P<plan>[^:/]+)|(?P<sampler>[a-z0-9_]+):(?P<steps>\d+)(:(?P<spacing>[a-z0-9,.:]+))?")


class ImageConditions(NamedTuple):
    """The values of the same conditions for each of some images, and the index of its class, if it has one."""

    conditions: Sequence[Mapping[str, Value]] = ()
    labels: Sequence[int] = ()
    files: Mapping[str, bytes] = {}  # those of sequences, by their SHA-256


def conditions_of(recipe: Recipe, real: Dataset, rows: NDArray[np.int64]) -> ImageConditions:
    """Returns the values of conditions, and the classes, of some of a recipe's real images."""
    labels = real.columns[LABEL].values.numpy()[rows].tolist() if LABEL in real.columns else []
    values, files = [values_at(recipe.conditions, real.columns, row) for row in rows], dict[str, bytes]()
    for name, condition in sequences_in(recipe.conditions).items():
        padded, lengths = real.columns[name]
        for row, of_image in zip(rows, values, strict=True):
            if lengths[row]:
                fitted = fit_sequence(padded[row, : lengths[row]].numpy(), condition=condition)
                of_image[name], files[fitted.sha256] = fitted.sha256, fitted.file
    return ImageConditions(values if any(values) else [], labels, files)


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
    conditions = {**by_value(recipe.conditions), **sequences_in(recipe.conditions)}
    plain = replace(recipe, data=data, condition=None, conditions=conditions)
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
        classes = len(self.model.class_names or ())
        in_turn = ImageConditions(labels=[(self.seed + i) % classes for i in range(classes)])
        return self.drawn(run[0], run.groupdict(), count or least, given or in_turn)

    def real(self, data: str, count: int | None) -> ImageSet:
        """Opens the images of an .npz file in their own size, or those of `real_images` in the model's size.

        `count` is their number in a file, and the largest number of others; None takes all.
        """
        if data.endswith(".npz"):
            return from_path(Path(data), count)
        images = real_images(data, count, shape=self.model.shape, networks=self.networks)
        return from_array(Path(data).name, images)

    def drawn(self, title: str, settings: Mapping[str, Any], count: int, given: ImageConditions) -> ImageSet:
        """Returns images that the model draws when the first is asked for; an .npz file keeps them for a later command.

        Args:
            title: what stands before the message of a UserError.
            settings: the settings of the sampler that are not the model's own.
            given: the conditions of each image, and the classes that the images take in turn.

        Raises UserError if the model does not take these settings or conditions, or figures are not of its images.
        """
        model = self.model
        names = given.conditions[0] if given.conditions else {}
        if missing := [name for name in model.needed_files if name not in names]:
            raise UserError(f"{title}: {model.name} needs files, {', '.join(missing)}, and cannot be measured")
        if model.shape.planes > 1:
            raise UserError(
                f"figures are of grey or RGB images, and {model.name} makes {model.shape.channels} channels"
            )
        label = model.class_names[0] if model.class_names else None  # any will do here; each image gets its own
        files = [name for name, each in model.conditions.items() if each.is_file]
        of_values = {name: (value,) for name, value in names.items() if name not in files}
        sent = {**settings, "condition": of_values or None, "seed": self.seed, "label": label, **self.chosen}
        query = checked(SamplingQuery, {key: value for key, value in sent.items() if value is not None}, str)
        with user_errors(title):
            params = model.settle(query)
        of_all = {name: tuple(each[name] for each in given.conditions) for name in names}
        labels = given.labels or ([0] if model.class_names else [])
        bulk = Bulk(model, count, params.model_copy(update={"conditions": of_all}), tuple(labels), given.files)

        @cache
        def images() -> ImageSet:
            file = self._file_of(bulk)
            return from_path(file if file.exists() else draw_file(file, bulk))

        noisy = f", eta {params.eta:g}" if params.eta else ""
        guided = "" if params.guidance.scale == 1 else f", guidance {params.guidance}"
        precision = model.loaded.precision
        otherwise = "" if precision == "float32" else f", {precision}"
        name = f"{model.name} {params.sampler} {params.spacing} {params.steps}{noisy}{guided}{otherwise}"
        return ImageSet(name, count, lambda first, size: images().draw(first, size), drawn_by=bulk.facts())

    def _file_of(self, bulk: Bulk) -> Path:
        params, digest = bulk.params, hashlib.sha256(json.dumps(bulk.facts(), sort_keys=True).encode()).hexdigest()
        name = f"{params.sampler}-{params.spacing.partition(':')[0]}-{params.steps}-{digest[:8]}.npz"
        return self.folder / f"{bulk.model.name}-{bulk.model.loaded.version[:8]}" / name
