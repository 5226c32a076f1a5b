"""Where `difuso evaluate` gets images from: a model's sampler, folders, .npz files, drawn faces, recipes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from evaluation.image_sets import ImageSet, drawn, from_array, from_path
from evaluation.real_images import FACES, real_images
from jobs.catalog import ModelInfo, read_catalog
from jobs.kinds.base import SamplingQuery, fill_in
from jobs.params import SamplingParams
from model import load_checkpoint
from worker.runner import Runner, pick_device
from worker.settings import WorkerSettings

from .errors import user_errors
from .options import checked
from .sampled_images import SampledImages

RUN = re.compile(r"(?P<sampler>[a-z]+):(?P<steps>\d+)(:(?P<spacing>[a-z0-9,]+))?")


def find_model(name: str | None, models_dir: Path) -> ModelInfo:
    """The checkpoint of this name; without one the first.

    Raises:
        UserError: if there is none.
    """
    with user_errors():
        return read_catalog(models_dir).choose(name)


@dataclass(frozen=True, kw_only=True)
class ImageSources:
    """Images as the command line names them; a checkpoint is loaded only if it must draw some.

    Attributes:
        model: name of a checkpoint; None is the first.
        seed: of the first image that the model draws.
        guidance_scale: None is none.
        folder: for the images that the model draws.
    """

    settings: WorkerSettings
    model: str | None
    seed: int
    guidance_scale: float | None
    folder: Path

    @cached_property
    def info(self) -> ModelInfo:
        """The model; raises UserError if there is none of this name."""
        return find_model(self.model, self.settings.models_dir)

    @property
    def default(self) -> str:
        """The run that the model's config recommends, as SAMPLER:STEPS:SPACING."""
        defaults = self.info.config.defaults
        return f"{defaults.sampler}:{defaults.steps}:{defaults.spacing}"

    def open(self, source: str, count: int | None, *, least: int) -> ImageSet:
        """Images of a run (SAMPLER:STEPS[:SPACING]), a folder or an .npz file.

        Args:
            count: how many; None is all of a folder or file, and `least` of a run.

        Raises:
            UserError: if the model has no such run.
            ModelError: if the checkpoint cannot be used.
            RecipeError, EvaluationError: if there is no such folder or file, or it holds too few images.
        """
        run = RUN.fullmatch(source)
        if run is None:
            return from_path(Path(source), count)
        params, info = self._params(run), self.info
        # All classes equally often, in turn.
        images = SampledImages(self._runner, params, self.folder, labels=range(len(info.config.classes or ())))
        name = f"{info.name} {params.sampler} {params.spacing} {params.steps}"
        return replace(
            drawn(name, images, count or least), drawn_by=images.facts, seconds_per_image=images.seconds_per_image
        )

    def real(self, data: str, count: int | None, *, split: str = "test", first: int = 0) -> ImageSet:
        """The images of an .npz file as they are, or those of `real_images` in the model's size."""
        if data.endswith(".npz"):
            return from_path(Path(data), count)
        config = self.info.config
        images = real_images(data, count, size=config.image_size, channels=config.channels, split=split, first=first)
        return from_array(f"{'other ' if first else ''}drawn faces" if data == FACES else Path(data).name, images)

    @cached_property
    def _runner(self) -> Runner:
        settings = self.settings
        checkpoint = load_checkpoint(settings.models_dir / self.info.name)
        return Runner(checkpoint, device=pick_device(settings.device), slots=settings.slots, exact=settings.exact)

    def _params(self, run: re.Match[str]) -> SamplingParams:
        classes = self.info.config.classes
        label = None if classes is None else classes[0]  # stands for any; each image gets its own
        sent = {**run.groupdict(), "seed": self.seed, "label": label, "guidance_scale": self.guidance_scale}
        query = checked(SamplingQuery, {key: value for key, value in sent.items() if value is not None}, str)
        with user_errors(run[0]):
            return fill_in(query, self.info)
