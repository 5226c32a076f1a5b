"""Fig. 13: the losses of three architectures, each trained for about the same two minutes of a core."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from evaluation.plots import save
from model.folders.config import SamplerDefaults, ScheduleConfig
from model.networks.configs import PaperUNetConfig, UNetConfig
from model.networks.network_config import NetworkConfig
from model.plans.schedule import FloatTable
from training.data.batches import Batches
from training.data.dataset import Dataset
from training.data.faces import draw_faces
from training.recipe import Recipe
from training.run.loss_curves import smoothed
from training.run.trainer import Trainer

from ..report import say, show

SIZE, FACES, BATCH = 32, 4000, 8


@dataclass(frozen=True)
class Architecture:
    """A network, and the number of optimiser steps in the minutes that each network gets.

    Attributes:
        every: the number of steps whose losses make one point of the curve.
    """

    network: NetworkConfig
    steps: int
    every: int


ARCHITECTURES = {
    "Fig. 8": Architecture(PaperUNetConfig(), steps=100, every=4),
    # Ho et al. 2020, appendix B, for CIFAR-10: one head, at 16x16.
    "DDPM": Architecture(
        UNetConfig(attention_levels=(1,), heads=1, freq_shift=1, norm_eps=1e-6, asymmetric_downsample=True),
        steps=37,
        every=1,
    ),
    # The network of fashion32, with three channels.
    "difuso": Architecture(
        UNetConfig(
            channels=64,
            channel_mult=(1, 2, 2),
            num_res_blocks=1,
            attention_levels=(2,),
            time_injection="scale_shift",
            groups=16,
            patch=2,
        ),
        steps=656,
        every=16,
    ),
}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training.

    Attributes:
        parameters: the number of the network's weights.
        losses: the mean squared error of the predicted noise at each step.
        seconds: the time that all steps took of the core.
    """

    parameters: int
    losses: FloatTable
    seconds: float


def draw(out: Path) -> None:
    """Trains all on the same faces, order, timesteps and noise, and draws their losses by images and by time."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    by_images, by_time = figure.subplots(1, 2, sharey=True)
    rows = []
    for name, architecture in ARCHITECTURES.items():
        say(f"{name}: {architecture.steps} steps")
        run = train(architecture)
        points = run.losses.reshape(-1, architecture.every).mean(axis=1)
        steps = architecture.every * np.arange(1, len(points) + 1)
        label = f"{name}, {run.parameters / 1e6:.1f} M"
        by_images.plot(BATCH * steps, smoothed(points), label=label)
        by_time.plot(steps / architecture.steps, smoothed(points), label=label)
        end = float(run.losses[-len(run.losses) // 10 :].mean())
        images = BATCH * architecture.steps
        rows.append((name, run.parameters, images, run.seconds / 60, images / run.seconds, end))
    by_images.set(xlabel="images", ylabel="mean squared error of ε", xscale="log", yscale="log")
    by_time.set(xlabel="share of the minutes", yscale="log")
    for axes in (by_images, by_time):
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    save(figure, out)
    heads = ("", "parameters", "images", "minutes", "images/s", "last tenth")
    show("losses of the same faces, order, timesteps and noise", heads, rows)


def train(architecture: Architecture) -> Run:
    """Trains one network as `difuso train` does, in float32, which gives the same losses in every run."""
    recipe = Recipe(
        name="paper",
        network=architecture.network,
        schedule=ScheduleConfig("linear"),
        defaults=SamplerDefaults(),
        image_size=SIZE,
        batch_size=BATCH,
        max_steps=architecture.steps,
        warmup_steps=20,
        precision="float32",
    )
    trainer = Trainer(recipe, Batches(faces(), BATCH, seed=recipe.seed))
    begin = time.process_time()
    losses = np.array([float(step.loss) for step in trainer.steps()])
    seconds = time.process_time() - begin
    return Run(sum(each.numel() for each in trainer.network.parameters()), losses, seconds)


@cache
def faces() -> Dataset:
    return Dataset(np.stack(list(islice(draw_faces("train", FACES, SIZE), FACES))))
