"""Models that draw many images: here, or on a server. Both make the same images from the same parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jobs.catalog import ModelInfo
from jobs.contract import new_job
from jobs.defaults import fill_in
from jobs.kinds.base import Prepared
from jobs.kinds.generate import Generation
from jobs.params import MAX_IMAGES, SamplingParams
from jobs.queries import SamplingQuery
from model.conditions import Conditions
from model.folders.config import Precision, SamplerDefaults
from model.shape import Shape
from worker.settings import WorkerSettings

from ..errors import UserError, user_errors
from ..models_folder import usable_models
from ..options import API_KEY, read_settings

if TYPE_CHECKING:
    from worker.stepping.runner import Runner


class DrawingModel(Protocol):
    """A model and the place where it draws.

    Attributes:
        name, sha256: name of the checkpoint, and SHA-256 of its weights.
        version: SHA-256 of all that determines an image, as far as it is known: here also of the config and of the
            networks that guide.
        precision: the number format of the network's calls.
        shape: the shape (C, H, W) of an image.
        class_names: classes of the network; None if it knows none.
        conditions: the conditions of the network, by name.
        labels: number of classes that a label may name: those of the network, or else of its classifier.
        defaults: the model's own settings.
        trained_images: number of images that its last stage was trained on; None if the model does not say.
        together: the best number of images to draw together; at most MAX_IMAGES.
        ahead: number of images that keep the place busy.
        is_here: whether this machine draws, so that its time tells how fast it is.
    """

    @property
    def name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def class_names(self) -> Sequence[str] | None: ...
    @property
    def conditions(self) -> Conditions: ...
    @property
    def labels(self) -> int: ...
    @property
    def defaults(self) -> SamplerDefaults: ...
    @property
    def trained_images(self) -> int | None: ...
    @property
    def together(self) -> int: ...
    @property
    def ahead(self) -> int: ...
    @property
    def is_here(self) -> bool: ...

    def settle(self, query: SamplingQuery) -> SamplingParams:
        """Fills in what a query leaves open; raises RequestRefused, PlanError or UserError if it is impossible."""

    def draw(self, runs: Iterable[SamplingParams], keep: Callable[[int, list[bytes]], None]) -> None:
        """Draws the images of several runs, in any order.

        Args:
            runs: taken one by one when there is room for another; all images of one are drawn together.
            keep: called with the number of each run, counted from 0, and the PNGs of its images.

        Raises UserError if a run cannot be drawn. Those before it were kept.
        """


class LocalModel:
    """A model of the models folder, drawn by the step engine as a worker does it, and loaded when first needed."""

    is_here = True

    def __init__(self, info: ModelInfo, load: Callable[[], Runner]) -> None:
        self._info = info
        self._load = load
        self.name = info.name
        self.shape = info.config.shape
        self.class_names, self.labels = info.config.classes, info.config.num_labels
        self.conditions = info.config.conditions
        self.defaults = info.config.defaults
        self.trained_images = _trained_images(info.config.training)

    @cached_property
    def _runner(self) -> Runner:
        return self._load()

    @property
    def sha256(self) -> str:
        return self._runner.checkpoint.sha256

    @property
    def version(self) -> str:
        return self._runner.checkpoint.version_sha256

    @property
    def precision(self) -> Precision:
        return self._runner.precision

    @property
    def together(self) -> int:
        return min(self._runner.slots, MAX_IMAGES)

    @property
    def ahead(self) -> int:
        return self.together

    def settle(self, query: SamplingQuery) -> SamplingParams:
        return fill_in(query, self._info).params

    def draw(self, runs: Iterable[SamplingParams], keep: Callable[[int, list[bytes]], None]) -> None:
        from worker.engine.local import run_jobs

        for number, run in enumerate(runs):
            job = new_job(self.name, Prepared(run, Generation()))
            with user_errors(self.name):
                (pngs,) = run_jobs(self._runner, [(job, ())])
            keep(number, pngs)


def _trained_images(training: Mapping[str, Any]) -> int | None:
    """Returns the number of training images that a config states; older configs state it for faces only."""
    match training:
        case {"training_images": int(known)} | {"recipe": {"data": {"source": "faces", "count": int(known)}}}:
            return known
    return None


def find_drawing_model(
    name: str | None,
    server: str | None,
    *,
    models_dir: Path | None = None,
    tag: str | None = None,
    precision: Precision | None = None,
) -> DrawingModel:
    """Finds a model by its name; None means the first, or the server's default.

    Args:
        server: the address of a server that draws; None means that this machine draws.
        models_dir: the folder of checkpoints of this machine; None is that of the settings.
        tag: the tag of a server's jobs.
        precision: the number format of the network here; None is that of the settings.

    Raises UserError if there is no such model, or the server refuses to answer or should compute in another format.
    """
    if server is not None:
        if precision is not None:
            raise UserError("a server computes in its own number format: leave out --precision")
        from .remote_drawing import served_model

        return served_model(name, server, os.environ.get(API_KEY), tag=tag)
    settings = read_settings(WorkerSettings, models_dir=models_dir)
    return local_model(name, settings if precision is None else settings.model_copy(update={"precision": precision}))


def local_model(name: str | None, settings: WorkerSettings) -> LocalModel:
    """Finds a checkpoint by its name; None means the first. Raises UserError if there is none."""

    def load() -> Runner:
        from model import load_checkpoint
        from worker.engine.models import make_runner
        from worker.stepping.runner import pick_device

        with user_errors(info.name):
            device = pick_device(settings.device)
            checkpoint = load_checkpoint(settings.models_dir / info.name, networks=settings.networks)
        return make_runner(checkpoint, settings, device=device)

    with user_errors():
        info = usable_models(settings.models_dir).choose(name)
    return LocalModel(info, load)


def model_of(runner: Runner) -> LocalModel:
    """Returns the model that a runner draws."""
    checkpoint = runner.checkpoint
    return LocalModel(ModelInfo(checkpoint.name, checkpoint.config, 0, checkpoint.sha256), lambda: runner)
