"""Finds the noise levels at which few calls of one network give the best images.

Spacings are rules that fit no network in particular. Where the calls of a short run should be, and how much noise it
should draw, can be learned for one network without training it, by a distance of distributions (Watson et al. 2022,
*Learning fast samplers by optimizing sample quality*). The distance is the kernel distance of features that the network
itself has of an image, so figures of other features, which nothing was tuned by, can still judge the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.forward_process import q_sample
from model.images import from_uint8
from training.images import ImageArray

from .distances import kernel_distance
from .features import BATCH, FeatureArray

APART = 0.5  # timesteps between two calls at least
Draw = Callable[[Sequence[float], float], ImageArray]  # from timesteps and eta to images of the same seeds every time


class OwnFeatures:
    """The features of images in a network of ours: mean and spread of every channel of its 3x3 convolutions.

    The images get a little noise, always the same, because the network knows no others.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._network, self._schedule, config = checkpoint.network, checkpoint.schedule, checkpoint.config
        self._timestep = self._schedule.num_train_timesteps // 10
        self._label = None if config.classes is None else len(config.classes) if config.network.null_class else 0
        self._noise = torch.randn((1, *config.shape), generator=torch.Generator().manual_seed(0))
        layers = self._network.modules()
        self._layers = [each for each in layers if isinstance(each, nn.Conv2d) and each.kernel_size > (1, 1)]

    def __call__(self, images: ImageArray) -> FeatureArray:
        """Computes the features of uint8 images, shape (N, H, W, C); returns float32 of shape (N, D).

        Grey images may have three channels.
        """
        kept: list[Tensor] = []

        def keep(layer: nn.Module, inputs: Any, out: Tensor) -> None:
            kept.extend([out.mean(dim=(2, 3)), out.std(dim=(2, 3))])

        hooks = [layer.register_forward_hook(keep) for layer in self._layers]
        try:
            parts = []
            for batch in np.split(images[..., : len(self._noise[0])], range(BATCH, len(images), BATCH)):
                self._call(from_uint8(torch.from_numpy(batch.copy())))
                parts.append(torch.cat(kept, dim=1).numpy())
                kept.clear()
            return np.concatenate(parts)
        finally:
            for hook in hooks:
                hook.remove()

    @torch.inference_mode()
    def _call(self, x0: Tensor) -> None:
        timesteps = torch.full((len(x0),), self._timestep)
        x_t = q_sample(self._schedule, x0, timesteps, self._noise.expand_as(x0))
        labels = () if self._label is None else (torch.full((len(x0),), self._label),)
        self._network(x_t, timesteps, *labels)


def distance_from(real: ImageArray, features: Callable[[ImageArray], FeatureArray]) -> Callable[[ImageArray], float]:
    """Returns the kernel distance of images from real ones, over features scaled to those of the real ones."""
    known = features(real)
    mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-6
    reference = (known - mean) / spread
    return lambda images: kernel_distance((features(images) - mean) / spread, reference).value


class Tuned(NamedTuple):
    """A run of few calls.

    Attributes:
        timesteps: the timesteps at which the network is called, rising; they may be fractional.
        eta: the noise of the run, 0..1.
        distance: how far its images are from real ones.
    """

    timesteps: tuple[float, ...]
    eta: float
    distance: float


def tune(
    draw: Draw,
    distance: Callable[[ImageArray], float],
    beginnings: Sequence[Sequence[float]],
    *,
    last: int,
    noisy: bool,
    rounds: int,
    tell: Callable[[float], None] = lambda share: None,
) -> tuple[Tuned, Tuned]:
    """Searches timesteps and eta by the simplex method of Nelder and Mead, from the best of several beginnings.

    Args:
        draw: draws images, of the same seeds at each call, so that chance does not decide which run is better.
        distance: see `distance_from`.
        beginnings: timesteps of known spacings, each of the same length.
        last: the noisiest timestep, T - 1.
        noisy: whether eta is searched, too; it begins at 0 and at 1. Else it stays 0.
        rounds: number of runs that are tried.
        tell: called after each with the share done, 0..1.

    Returns:
        The best of the beginnings, and the best of all runs.
    """
    calls, tried = len(beginnings[0]), []

    def measure(point: FeatureArray) -> float:
        timesteps, eta = _in_order(point[:calls], last), float(np.clip(point[calls:].sum(), 0.0, 1.0))
        tried.append(Tuned(timesteps, eta, distance(draw(timesteps, eta))))
        tell(min(1.0, len(tried) / rounds))
        return tried[-1].distance

    points = [
        np.array([*each, eta] if noisy else each) for each in beginnings for eta in ((0.0, 1.0) if noisy else (0,))
    ]
    best = points[int(np.argmin([measure(point) for point in points]))]
    before = min(tried, key=lambda each: each.distance)
    steps = np.maximum(0.1 * last / calls, 0.15 * best)
    steps[calls:] = 0.3 if best[-1] < 0.5 else -0.3
    steps[:calls] *= np.where(best[:calls] > last / 2, -1, 1)
    simplex = np.vstack([best, best + np.diag(steps)])
    minimize(measure, best, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": rounds - len(points)})
    return before, min(tried, key=lambda each: each.distance)


def _in_order(timesteps: FeatureArray, last: int) -> tuple[float, ...]:
    """Returns timesteps that rise, lie between 0 and `last` and have some distance, to a hundredth."""
    room = APART * np.arange(len(timesteps))
    rising = np.maximum.accumulate(np.clip(np.sort(timesteps) - room, 0.0, last - room[-1])) + room
    return tuple(np.round(rising, 2).tolist())
