"""A few steps that write nothing, to see whether a recipe works here, and its needs."""

import dataclasses
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..data import dataset
from ..data.batches import Batches
from ..recipe import Precision, Recipe
from .flops import call_flops
from .trainer import Trainer

TIMED_STEPS = 3  # after one that warms up
MIB = 2**20


@dataclass(frozen=True)
class DryRun:
    """The measurements of a dry run."""

    parameters: int  # number of the network's parameters
    flops: int  # see `call_flops`
    precision: str  # number format of the network's calls
    # seconds of a pass forwards and backwards in each format; none if the recipe says one
    format_seconds: Mapping[Precision, float]
    widths: tuple[int, ...]  # channels of the network's levels; empty for a network without
    batch: tuple[int, ...]  # shape of the images of one step
    classes: tuple[str, ...] | None  # names of the classes; None for a network without classes
    step_seconds: float  # mean of the timed steps
    state_bytes: int  # size of weights, gradients, moments of the optimiser and averages; the same on any machine
    peak_bytes: int  # largest memory of the process, or on a GPU of its tensors
    max_steps: int

    def lines(self) -> list[str]:
        """Returns the measurements as lines for people."""
        hours = self.max_steps * self.step_seconds / 3600
        named = "" if self.classes is None else f", {len(self.classes)} classes: {', '.join(self.classes[:10])}"
        tried = ", ".join(f"{seconds:.3g} s in {name}" for name, seconds in self.format_seconds.items())
        widths = f", at widths of {', '.join(map(str, self.widths))}" if self.widths else ""
        return [
            f"network  {self.parameters:,} parameters, {self.flops / 1e9:.3g} GFLOP an image and call, "
            f"three times as many in training, in {self.precision}",
            *([f"format   {self.precision}: a pass forwards and backwards takes {tried}{widths}"] if tried else []),
            f"batch    {' x '.join(map(str, self.batch))}{named}",
            f"memory   {self.state_bytes / MIB:,.0f} MiB of weights, gradients, moments and averages; "
            f"{self.peak_bytes / MIB:,.0f} MiB at most",
            f"step     {self.step_seconds:.3g} s, {self.batch[0] / self.step_seconds:.3g} images/s",
            f"the run  {self.max_steps:,} steps would take {hours:,.1f} hours here",
        ]


def dry_run(recipe: Recipe, *, device: str = "cpu") -> DryRun:
    """Trains a few steps on the first images of a recipe, with nothing written.

    Raises:
        RecipeError: if the images cannot be used or do not fill a batch.
        torch.OutOfMemoryError: if a batch does not fit into the device's memory.
    """
    longer = dataclasses.replace(recipe, max_steps=max(recipe.max_steps, 1 + TIMED_STEPS))
    images = dataset.first_images(recipe)
    trainer = Trainer(longer, Batches(images, recipe.batch_size, seed=recipe.seed), device)
    steps = trainer.steps()
    next(steps)
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        next(steps)  # its facts are on the CPU, so the device has finished it
    seconds = (time.perf_counter() - started) / TIMED_STEPS
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    return DryRun(
        parameters=parameters,
        flops=call_flops(trainer),
        precision=str(trainer.precision),
        format_seconds=trainer.format_seconds,
        widths=getattr(recipe.network, "widths", ()),
        batch=(recipe.batch_size, *recipe.shown_shape),
        classes=images.classes,
        step_seconds=seconds,
        state_bytes=4 * parameters * (4 + len(trainer.emas)),
        peak_bytes=_peak_bytes(trainer.device),
        max_steps=recipe.max_steps,
    )


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
