"""Equation 6, the loss: bars are missing (erratum E8)."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difuso.model import make_plan, sample
from difuso.model.images import from_levels
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.schedule import FloatTable
from difuso.training.data.faces import draw_faces

from ..report import show
from .sheets import Row, save_sheet, tensors, to_images
from .shipped import LINEAR, SEEDS, SHAPE

FACES = 500
SHOWN = (0, 249, 499, 999)


@dataclass(frozen=True, eq=False)
class BestPredictor:
    """The best possible predictor of the noise in sqrt(keep_t) x0 + sqrt(1 - keep_t) eps, for normally distributed x0.

    Attributes:
        mean: the mean of x0, float64, shape (D,).
        axes: the directions in which x0 varies, orthonormal, float64, shape (K, D).
        variances: its variances along them, float64, shape (K,).
        keep: what the noised images of training keep of x0, squared, at each timestep, shape (T,).
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    keep: FloatTable

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        keep = float(self.keep[int(t[0])])
        centred = x.flatten(1) - keep**0.5 * self.mean
        share = keep * self.variances / (keep * self.variances + 1 - keep)  # of x along an axis, the part that is x0
        eps = (centred - (centred @ self.axes.T * share) @ self.axes) / (1 - keep) ** 0.5
        return torch.reshape(eps, x.shape)


def draw(out: Path) -> None:
    """Shows what each loss lets a network see, and what a network that minimises it draws."""
    faces = from_levels(tensors(list(islice(draw_faces("train", FACES, 64), FACES)))).double()
    shown, noise = faces[:1], draw_noise([image_generator(0)], SHAPE).double()
    pixels = faces.flatten(1)
    mean = pixels.mean(dim=0)
    _, roots, axes = torch.linalg.svd((pixels - mean) / (FACES - 1) ** 0.5, full_matrices=False)
    kept = {"ᾱ": LINEAR.alphas_cumprod, "α": 1 - LINEAR.betas}
    # The chain of Fig. 6 without its slips, for either network.
    plan = make_plan(LINEAR, sampler="ddpm", steps=1000, spacing="linspace", variance="fixed_large", clip="none")
    seen, drawn, spreads = [], [], []
    for name, keep in kept.items():
        noised = np.sqrt(keep[list(SHOWN)]), np.sqrt(1 - keep[list(SHOWN)])
        signal, spread = (torch.from_numpy(each).view(-1, 1, 1, 1) for each in noised)
        seen.append(
            Row(f"√{name} x₀ + √(1−{name}) ε\nt", to_images(signal * shown + spread * noise), list(map(str, SHOWN)))
        )
        predictor = BestPredictor(mean, axes, roots**2, keep)
        x = sample(plan, predictor, shape=SHAPE, seeds=SEEDS, dtype=torch.float64)
        drawn.append(Row(f"{name} → x₀", to_images(x)))
        spreads.append((name, float(x.std())))
    save_sheet([*seen, *drawn], out)
    show("pixels", ("", "standard deviation in [-1, 1]"), [("faces", float(faces.std())), *spreads])
