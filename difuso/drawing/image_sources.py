"""The sources of images of `difuso evaluate`: a model's sampler, folders, .npz files, drawn faces, recipes."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.image_sets import ImageSet, drawn, from_array, from_path
from evaluation.real_images import FACES, real_images
from jobs.params import SamplingParams
from jobs.queries import SamplingQuery
from model.conditions import Told
from training.data.images import ImageArray

from ..errors import UserError, user_errors
from ..options import checked
from .drawing import DrawingModel
from .sampled_images import SampledImages

RUN = re.compile(r"plan:(?P<plan>[^:/]+)|(?P<sampler>[a-z0-9_]+):(?P<steps>\d+)(:(?P<spacing>[a-z0-9,.:]+))?")


@dataclass(frozen=True, kw_only=True)
class ImageSources:
    """Opens images by their names on the command line.

    Attributes:
        find: finds the model, which is loaded only if it must draw images; raises UserError if it does not exist.
        seed: seed of the first image that the model draws.
        chosen: the settings of all samplers, in addition to those that a name holds; the others are the model's.
        folder: folder for the images that the model draws.
        networks: the modules of other packages whose sources a recipe may name.
    """

    find: Callable[[], DrawingModel]
    seed: int
    chosen: Mapping[str, Any]
    folder: Path
    networks: Collection[str] = ()

    @cached_property
    def model(self) -> DrawingModel:
        """The model."""
        return self.find()

    @property
    def default(self) -> str:
        """The default settings of the model, as SAMPLER:STEPS:SPACING."""
        defaults = self.model.defaults
        return f"{defaults.sampler}:{defaults.steps}:{defaults.spacing}"

    def open(self, source: str, count: int | None, *, least: int) -> ImageSet:
        """Opens images: SAMPLER:STEPS[:SPACING] or plan:NAME draws them with the model; else a folder or an .npz file.

        Args:
            count: number of images; None means all of a folder or file, and `least` if they must be drawn.

        Raises:
            UserError: if the model cannot draw with these settings.
            ModelError: if the checkpoint cannot be used.
            RecipeError, EvaluationError: if there is no such folder or file, or it holds too few images.
        """
        run = RUN.fullmatch(source)
        if run is None:
            return from_path(Path(source), count)
        params, model, total = self._params(run[0], run.groupdict()), self.model, count or least
        if model.shape.planes > 1:
            raise UserError(
                f"figures are of grey or RGB images, and {model.name} makes {model.shape.channels} channels"
            )
        # The classes take turns, so that each is drawn equally often.
        images = SampledImages(model, params, self.folder, labels=range(len(model.class_names or ())))

        def draw(first: int, size: int) -> ImageArray:
            begin = first - first % model.ahead
            images.make(range(begin, min(begin + model.ahead, total)))
            return images(first, size)

        noisy = f", eta {params.eta:g}" if params.eta else ""
        guided = "" if params.guidance.scale == 1 else f", guidance {params.guidance}"
        otherwise = "" if model.precision == "float32" else f", {model.precision}"
        name = f"{model.name} {params.sampler} {params.spacing} {params.steps}{noisy}{guided}{otherwise}"
        return replace(drawn(name, draw, total), drawn_by=images.facts, seconds_per_image=images.seconds_per_image)

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

    def telling(self, told: Sequence[Mapping[str, Told]], labels: Sequence[int]) -> SampledImages:
        """Returns images that the model draws with its own settings, each told something else.

        Args:
            told: the values of the conditions of each image.
            labels: the class of each image, by index; empty for a model without classes.

        Raises:
            UserError: if the model does not take these conditions.
        """
        conditions = [
            f"{name}:{','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for name, value in told[0].items()
        ]
        params = self._params(self.model.name, {"condition": conditions or None})
        # The image of seed s gets label s modulo their count.
        return SampledImages(self.model, params, self.folder, labels=np.roll(labels, self.seed).tolist(), told=told)

    def _params(self, title: str, settings: Mapping[str, Any]) -> SamplingParams:
        names = self.model.class_names
        label = None if names is None else names[0]  # any class will do here; each image gets its own
        sent = {**settings, "seed": self.seed, "label": label, **self.chosen}
        query = checked(SamplingQuery, {key: value for key, value in sent.items() if value is not None}, str)
        with user_errors(title):
            return self.model.settle(query)
