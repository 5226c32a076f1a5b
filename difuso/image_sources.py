"""A checkpoint whose pictures are measured; loaded only if there are some to draw."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.errors import InvalidRequest
from app.parameters import SamplingQuery, fill_in
from evaluation.image_sets import Pictures, drawn
from jobs.catalog import ModelInfo
from jobs.contract import SamplingParams
from model import load_checkpoint
from worker.runner import Runner, pick_device
from worker.settings import WorkerSettings

from .errors import UserError
from .options import checked
from .real_images import find_model, stored
from .sampled_images import Drawing

RUN = re.compile(r"(?P<sampler>[a-z]+):(?P<steps>\d+)(:(?P<spacing>[a-z0-9,]+))?")


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Draws what SAMPLER:STEPS[:SPACING] means.

    Attributes:
        model: name of a checkpoint; None is the first.
        seed: of picture 0.
        guidance_scale: None is none.
        folder: for the pictures.
    """

    settings: WorkerSettings
    model: str | None
    seed: int
    guidance_scale: float | None
    folder: Path

    @cached_property
    def info(self) -> ModelInfo:
        """Raises UserError if there is no such model."""
        return find_model(self.model, self.settings.models_dir)

    @cached_property
    def _runner(self) -> Runner:
        settings = self.settings
        checkpoint = load_checkpoint(settings.models_dir / self.info.name)
        return Runner(checkpoint, device=pick_device(settings.device), slots=settings.slots, exact=settings.exact)

    @property
    def default(self) -> str:
        """The run that the model likes best."""
        defaults = self.info.defaults
        return f"{defaults.sampler}:{defaults.steps}:{defaults.spacing}"

    def open(self, source: str, count: int | None, *, least: int) -> tuple[Pictures, Drawing | None]:
        """Pictures of a run, a folder or an .npz file, and for a run what draws them.

        Args:
            count: how many; None is all of a folder or file, and `least` of a run.

        Raises:
            UserError: if there is no such source, or the model has no such run.
            ModelError: if the checkpoint cannot be used.
            RecipeError, EvaluationError: if there are too few pictures.
        """
        run = RUN.fullmatch(source)
        if run is None:
            return stored(source, count), None
        params, info = self._params(run), self.info
        # All classes equally often, in turn.
        drawing = Drawing(self._runner, params, self.folder, labels=range(len(info.classes or ())))
        return drawn(f"{info.name} {params.sampler} {params.spacing} {params.steps}", drawing, count or least), drawing

    def _params(self, run: re.Match[str]) -> SamplingParams:
        classes = self.info.classes
        label = None if classes is None else classes[0]  # stands for any; each picture gets its own
        sent = {**run.groupdict(), "seed": self.seed, "label": label, "guidance_scale": self.guidance_scale}
        query = checked(SamplingQuery, {key: value for key, value in sent.items() if value is not None}, str)
        try:
            return fill_in(query, self.info)
        except InvalidRequest as error:
            raise UserError(f"{run[0]}: {error.name}: {error.detail}") from error
