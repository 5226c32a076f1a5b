"""Pairs of noise and the image that a teacher, a model, draws from it without further noise: the source `teacher`.

The noise of a pair follows from its number, so only the image is kept. The conditions of the pairs are the examples
that the teacher carries, or its classes, in turn.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from difuso.model.checkpoint import load_checkpoint
from difuso.model.conditions import Value
from difuso.model.errors import PlanError
from difuso.model.folders.config import ModelConfig
from difuso.model.images import to_uint8
from difuso.model.memory import move
from difuso.model.network_inputs import NetworkInputs, inputs_of
from difuso.model.noise import draw_noise, image_generator
from difuso.model.sampling import sample
from difuso.model.shape import Shape

from ..calls import autocast, format_of
from ..errors import RecipeError, checkpoint_errors
from ..objective.distillation import base_inputs
from ..recipe import Data, Recipe
from ..replacing import replacing
from .images import ImageArray
from .source_images import Source, SourceImage

log = logging.getLogger(__name__)

# The seed of the first pair's noise. Of a seed 32 bits count, and requests, sheets and measurements begin near 0: they
# show what was not trained on.
FIRST_SEED = 2**31
BATCH, PART = 128, 1024  # pairs in a call of the teacher, and in a file


def open_teacher(data: Data, shape: Shape) -> Source:
    """Raises RecipeError: only a training has a model draw its images."""
    raise RecipeError(f"{data.path!r} draws the images of this recipe: name a recipe or a folder of real ones")


def noise_of(rows: NDArray[np.int64], images: ImageArray) -> Tensor:
    """Returns the noise of pairs by their numbers, (B, C, H, W), for their images, (B, H, W, C)."""
    height, width, channels = images.shape[1:]
    return draw_noise([image_generator(FIRST_SEED + int(row)) for row in rows], (channels, height, width))


class Pairs:
    """The pairs of a recipe; its teacher draws on a device. An image is the same in whatever order they are drawn.

    Raises RecipeError if the teacher cannot be loaded, differs from the model of the recipe where they must agree, or
    needs for its images what a pair does not have.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        data = recipe.data
        with checkpoint_errors("data.path", data.path):
            checkpoint = load_checkpoint(data.path, device=device, networks=recipe.own_modules)
        self._config, self.count, self._device = checkpoint.config, data.count, device
        _check(recipe, self._config)
        try:
            self._plan = self._config.plan(checkpoint.schedule, **vars(data.settings))
        except PlanError as error:
            raise RecipeError(f"data.settings: {error}") from error
        if self._plan.stochastic:
            raise RecipeError("data.settings draw noise on the way, so no image follows from its noise: set eta to 0")
        self._precision = format_of(recipe.precision, checkpoint.network, device)
        self._network, self._base = checkpoint.denoiser, (checkpoint.weaker_version or checkpoint).denoiser
        for network in {self._network, self._base}:
            move(network, device)
            if recipe.compile:
                network.compile(dynamic=False)
        # Which example or class a pair has, in turn; -1 stands for none.
        free = np.random.default_rng(0).random(-(-self.count // BATCH) * BATCH) < data.free
        self._turns = np.where(free, -1, np.cumsum(~free) - 1)
        drawn_by = repr((checkpoint.version, data.settings, data.free, self._precision))
        self._name = hashlib.sha256(drawn_by.encode()).hexdigest()[:16]

    def keep(self, folder: Path, *, process: int = 0, processes: int = 1) -> None:
        """Draws the parts of a process that a folder lacks, and writes each whole."""
        mine, started = range(process * PART, self.count, processes * PART), time.perf_counter()
        missing = [first for first in mine if not self._path(folder, first).is_file()]
        (folder / self._name).mkdir(parents=True, exist_ok=True)
        for done, first in enumerate(missing, start=1):
            images = np.concatenate([*self._batches(first)])[: self.count - first]
            with replacing(self._path(folder, first)) as file:
                np.save(file, images)
            left = timedelta(seconds=round((time.perf_counter() - started) / done * (len(missing) - done)))
            log.info("drew images %d to %d of %d, %s left", first + 1, first + len(images), self.count, left)

    def source(self, folder: Path | None = None) -> Source:
        """Returns the images with their labels and conditions, from a folder with all parts or drawn anew."""
        classes = self._config.classes
        return Source(self._items(folder), self.count, classes, columns=tuple(self._config.conditions))

    def _items(self, folder: Path | None) -> Iterator[SourceImage]:
        for first in range(0, self.count, PART):
            batches = self._batches(first) if folder is None else iter([np.load(self._path(folder, first))])
            rows = range(first, min(first + PART, self.count))
            for row, image in zip(rows, chain.from_iterable(batches), strict=False):
                yield SourceImage(f"pair {row}", image, self._label(row), values=self._values(row))

    def _batches(self, first: int) -> Iterator[ImageArray]:
        """Yields the images of a part in whole batches, which may hold some more than there are pairs."""
        for at in range(first, min(first + PART, self.count), BATCH):
            yield self._draw(range(at, at + BATCH))

    def _draw(self, rows: range) -> ImageArray:
        config = self._config
        inputs = inputs_of(config.conditions, [self._values(row) for row in rows], config.shape[1:])
        if config.classes is not None:
            inputs["labels"] = torch.tensor([self._label(row) for row in rows])
        network, base = self._called(self._network, inputs), self._called(self._base, base_inputs(config, inputs))
        seeds = [FIRST_SEED + row for row in rows]
        drawn = sample(self._plan, network, shape=config.shape, seeds=seeds, device=self._device, base=base)
        return to_uint8(drawn.cpu()).numpy()

    def _called(self, network: nn.Module, inputs: NetworkInputs) -> Callable[[Tensor, Tensor], Tensor]:
        inputs = {name: each.to(self._device) for name, each in inputs.items()}

        def call(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(self._precision, self._device):
                out: Tensor = network(x_t.contiguous(memory_format=torch.channels_last), t, **inputs)
            return out.float()

        return call

    def _values(self, row: int) -> dict[str, Value]:
        turn = int(self._turns[row])
        return {} if turn < 0 else {name: each[turn % len(each)] for name, each in self._config.examples.items()}

    def _label(self, row: int) -> int | None:
        """Returns the class of a pair, and for none the number after the last one."""
        count, turn = len(self._config.classes or ()), int(self._turns[row])
        return turn % count if count and turn >= 0 else count or None

    def _path(self, folder: Path, first: int) -> Path:
        return folder / self._name / f"{first:08d}-{min(first + PART, self.count):08d}.npy"


def _check(recipe: Recipe, teacher: ModelConfig) -> None:
    where = f"data.path = {recipe.data.path!r}"
    if teacher.enlarges:
        raise RecipeError(f"{where}: this model enlarges images: name one that draws from noise")
    if recipe.shape != teacher.shape:
        raise RecipeError(f"{where}: this model draws {teacher.shape.in_pixels} pixels in {teacher.channels} channels")
    if recipe.data.settings.guidance_scale != 1.0 and teacher.never_guided is not None:
        raise RecipeError(f"{where}: this model {teacher.never_guided}: leave data.settings.guidance_scale out")
    if len(teacher.classes or ()) != (recipe.num_classes or 0):
        raise RecipeError(f"{where}: this model has {len(teacher.classes or ())} classes: set network.num_classes")
    if recipe.data.free and any(not each.null for each in teacher.declared.values()):
        raise RecipeError(f"{where}: this model needs {', '.join(teacher.required)}: set data.free to 0")
    for name in teacher.conditions:
        if name not in teacher.examples:
            raise RecipeError(f"{where}: this model carries no examples of {name}: train it with `examples`")
