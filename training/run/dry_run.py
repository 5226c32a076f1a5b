"""A few steps that write nothing, to see whether a recipe works here, and its needs."""

import copy
import dataclasses
import resource
import sys
import time
from datetime import timedelta

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..data import dataset
from ..data.batches import Batches
from ..recipe import Recipe
from .trainer import Trainer

TIMED_STEPS = 10  # after one that warms up
MIB = 2**20


def step_seconds(recipe: Recipe, *, device: str = "cpu") -> float:
    """Trains a few steps on the first images, and writes nothing; returns the seconds that a step takes.

    Raises RecipeError or torch.OutOfMemoryError.
    """
    return _measured(recipe, device)[1]


def _measured(recipe: Recipe, device: str) -> tuple[Trainer, float]:
    longer = dataclasses.replace(recipe, max_steps=max(recipe.max_steps, 1 + TIMED_STEPS))
    trainer = Trainer(longer, Batches(dataset.first_images(recipe), recipe.batch_size, seed=recipe.seed), device)
    steps = trainer.steps()
    next(steps)
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        next(steps)  # its facts are on the CPU, so the device has finished it
    return trainer, (time.perf_counter() - started) / TIMED_STEPS


def dry_run(recipe: Recipe, *, device: str = "cpu") -> list[str]:
    """Trains a few steps as `step_seconds` does; returns what it measured, as lines for people."""
    trainer, seconds = _measured(recipe, device)
    parameters, classes = trainer.parameters, trainer.batches.dataset.classes
    named = "" if classes is None else f", {len(classes)} classes: {', '.join(classes[:10])}"
    run = timedelta(seconds=round(recipe.max_steps * seconds))
    state = 4 * parameters * 5  # bytes, the same on any machine
    return [
        f"network  {parameters:,} parameters, {call_flops(trainer) / 1e9:.3g} GFLOP an image and call, "
        f"three times as many in training, in {trainer.precision}",
        f"batch    {' x '.join(map(str, (recipe.batch_size, *recipe.shown_shape)))}{named}",
        f"memory   {state / MIB:,.0f} MiB of weights, gradients, moments and averages; "
        f"{_peak_bytes(trainer.device) / MIB:,.0f} MiB at most",
        f"step     {seconds:.3g} s, {recipe.batch_size / seconds:.3g} images/s",
        f"the run  {recipe.max_steps:,} steps would take {run} here",
    ]


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
    """Returns the largest memory of the process, or on a GPU of its tensors."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
