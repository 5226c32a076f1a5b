"""The sources of images of `difuso evaluate`: a model's sampler, folders, .npz files, drawn faces, recipes."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from difuso.evaluation.image_sets import ImageSet, from_array, from_path
from difuso.evaluation.real_images import FACES, real_images
from difuso.jobs.queries import SamplingQuery
from difuso.training.data.images import ImageArray

from ..errors import UserError, user_errors
from ..options import checked
from .drawing import DrawingModel
from .real_conditions import ImageConditions
from .sampled_images import SampledImages

RUN = re.compile(r"plan:(?P<plan>[^:/]+)|(?P<sampler>[a-z0-9_]+):(?P<steps>\d+)(:(?P<spacing>[a-z0-9,.:]+))?")


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
