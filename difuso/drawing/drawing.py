"""Models that draw many images: here, or on a server. Both make the same images from the same parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.contract import new_job
from difuso.jobs.defaults import fill_in, fill_in_conditions
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import Conditions
from difuso.model.folders.config import Precision, SamplerDefaults
from difuso.model.folders.never import Never
from difuso.model.shape import Shape
from difuso.worker.settings import WorkerSettings

from ..errors import user_errors

if TYPE_CHECKING:
    from difuso.worker.stepping.runner import Runner


@dataclass(frozen=True)
class Loaded:
    """What is known of a model once it is loaded."""

    version: str  # its version, see `model.folders.files`
    precision: Precision  # number format of the network's calls


class DrawingModel(ABC):
    """A model and the place where it draws."""

    name: str
    shape: Shape  # shape of an image
    class_names: Sequence[str] | None  # classes of the network; None if it knows none
    labels: int  # number of classes that a label may name: those of the network, or else of its classifier
    conditions: Conditions  # conditions of the network, by name
    never: Never  # the choices that it declares never seen together
    defaults: SamplerDefaults  # the model's own settings

    @property
    def needed_files(self) -> list[str]:
        """The names of the conditions that are files and cannot be left out. Each request has to send them."""
        return [name for name, each in self.conditions.items() if each.is_file and not each.null]

    @property
    @abstractmethod
    def loaded(self) -> Loaded:
        """The facts of the loaded model, which is loaded when they are first asked for."""

    @abstractmethod
    def settle(self, query: SamplingQuery) -> SamplingParams:
        """Fills in what a query leaves open; raises RequestRefused, PlanError or UserError if it is impossible."""

    @abstractmethod
    def draw(
        self, runs: Iterable[SamplingParams], keep: Callable[[int, list[bytes]], None], files: Mapping[str, bytes]
    ) -> None:
        """Draws the images of several runs, in any order.

        Args:
            runs: taken one by one when there is room for another; all images of one are drawn together.
            keep: called with the number of each run, counted from 0, and the PNGs of its images.
            files: the fitted files of their conditions, by their SHA-256.

        Raises UserError if a run cannot be drawn. Those before it were kept.
        """


class LocalModel(DrawingModel):
    """A model of the models folder, drawn by the step engine as a worker does it, and loaded when first needed."""

    def __init__(self, info: ModelInfo, load: Callable[[], Runner]) -> None:
        self._info = info
        self._load = load
        self.name = info.name
        self.shape = info.config.shape
        self.class_names, self.labels = info.config.classes, info.config.num_labels
        self.conditions, self.never = info.config.conditions, info.config.never
        self.defaults = info.config.defaults

    @cached_property
    def _runner(self) -> Runner:
        return self._load()

    @cached_property
    def loaded(self) -> Loaded:
        return Loaded(self._runner.checkpoint.version, self._runner.precision)

    def settle(self, query: SamplingQuery) -> SamplingParams:
        return fill_in(query, self._info, with_examples=True).params

    def draw(
        self, runs: Iterable[SamplingParams], keep: Callable[[int, list[bytes]], None], files: Mapping[str, bytes]
    ) -> None:
        from difuso.model.images import from_file
        from difuso.worker.engine.local import run_job

        for number, run in enumerate(runs):
            with user_errors(self.name):
                job = new_job(self.name, Prepared(fill_in_conditions(run, self._info.config), Generation()))
                sent = [from_file(files[each]) for each in run.uploads(self._info.config)]
                pngs = run_job(self._runner, job, sent).pngs
            keep(number, pngs)


def load_runner(folder: Path, settings: WorkerSettings, *, slots: int | None = None) -> Runner:
    """Loads the model in a folder; `slots` is the size of the largest batch where the settings name none.

    Raises UserError if its checkpoint or the device cannot be used.
    """
    from difuso.model import load_checkpoint
    from difuso.worker.engine.models import make_runner
    from difuso.worker.stepping.runner import pick_device

    with user_errors(folder.name):
        checkpoint = load_checkpoint(folder, networks=settings.networks)
    with user_errors(checkpoint.name):
        return make_runner(checkpoint, settings, device=pick_device(settings.device), slots=slots)
