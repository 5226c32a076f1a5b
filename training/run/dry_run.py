"""A few steps that write nothing, to see whether a recipe works here, and its needs."""

import copy
import dataclasses
import resource
import sys
import time
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..data import dataset
from ..data.batches import Batches
from ..recipe import Recipe
from .trainer import Trainer

TIMED_STEPS = 3  # after one that warms up
MIB = 2**20


@dataclass(frozen=True, eq=False)
class DryRun:
    """The measurements of a dry run."""

    recipe: Recipe
    trainer: Trainer  # after some steps
    flops: int  # see `call_flops`
    step_seconds: float  # mean of the timed steps
    peak_bytes: int  # largest memory of the process, or on a GPU of its tensors

    @property
    def parameters(self) -> int:
        """Number of the network's parameters."""
        return sum(parameter.numel() for parameter in self.trainer.network.parameters())

    @property
    def state_bytes(self) -> int:
        """Size of weights, gradients, moments of the optimiser and averages; the same on any machine."""
        return 4 * self.parameters * 5

    def lines(self) -> list[str]:
        """Returns the measurements as lines for people."""
        recipe, precision, classes = self.recipe, self.trainer.precision, self.trainer.batches.dataset.classes
        batch = (recipe.batch_size, *recipe.shown_shape)
        named = "" if classes is None else f", {len(classes)} classes: {', '.join(classes[:10])}"
        tried = ", ".join(f"{seconds:.3g} s in {name}" for name, seconds in self.trainer.format_seconds.items())
        widths = getattr(recipe.network, "widths", ())  # channels of the network's levels
        at = f", at widths of {', '.join(map(str, widths))}" if widths else ""
        return [
            f"network  {self.parameters:,} parameters, {self.flops / 1e9:.3g} GFLOP an image and call, "
            f"three times as many in training, in {precision}",
            *([f"format   {precision}: a pass forwards and backwards takes {tried}{at}"] if tried else []),
            f"batch    {' x '.join(map(str, batch))}{named}",
            f"memory   {self.state_bytes / MIB:,.0f} MiB of weights, gradients, moments and averages; "
            f"{self.peak_bytes / MIB:,.0f} MiB at most",
            f"step     {self.step_seconds:.3g} s, {recipe.batch_size / self.step_seconds:.3g} images/s",
            f"the run  {recipe.max_steps:,} steps would take "
            f"{recipe.max_steps * self.step_seconds / 3600:,.1f} hours here",
        ]


def dry_run(recipe: Recipe, *, device: str = "cpu") -> DryRun:
    """Trains a few steps on the first images, and writes nothing; raises RecipeError or torch.OutOfMemoryError."""
    longer = dataclasses.replace(recipe, max_steps=max(recipe.max_steps, 1 + TIMED_STEPS))
    trainer = Trainer(longer, Batches(dataset.first_images(recipe), recipe.batch_size, seed=recipe.seed), device)
    steps = trainer.steps()
    next(steps)
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        next(steps)  # its facts are on the CPU, so the device has finished it
    seconds = (time.perf_counter() - started) / TIMED_STEPS
    return DryRun(recipe, trainer, call_flops(trainer), seconds, _peak_bytes(trainer.device))


def call_flops(trainer: Trainer) -> int:
    """Returns the operations of a call forwards with one image, two for each multiplication with its addition."""
    network = copy.deepcopy(trainer.network)  # in training mode a call may change the means of a normalisation
    x_t, t, inputs = trainer.blank(1)
    # In training mode, because the counter does not know oneDNN's convolutions of the other; dropout draws there. And
    # attention by matrix products, because it does not know the CPU's own.
    counted = FlopCounterMode(display=False)
    with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH), counted as counter, torch.no_grad():
        network(x_t, t, **inputs)
    return int(counter.get_total_flops())


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
