"""Fig. 6, its update: the factor x and the term sqrt(beta) z (erratum C3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from difuso.model.noise import draw_noise

from ..report import show
from .sheets import Row, save_sheet, to_images
from .shipped import LINEAR, SHAPE, load_faces, right_chain, starts

SHOWN = (0, 1, 2, 4, 6, 7)  # steps of the printed chain, which is NaN from 7 on


class Update(Protocol):
    """One step of the loop of Fig. 6: from x_i, the predicted noise, and alpha_i, abar_i, beta_i and z."""

    def __call__(self, x: Tensor, eps: Tensor, *, alpha: float, abar: float, beta: float, noise: Tensor) -> Tensor: ...


def printed(x: Tensor, eps: Tensor, *, alpha: float, abar: float, beta: float, noise: Tensor) -> Tensor:
    """The printed line, which makes `beta` and `noise` and does not use them."""
    return x / math.sqrt(alpha) * (x - ((1 - alpha) / math.sqrt(1 - abar)) * eps)


def without_factor(x: Tensor, eps: Tensor, *, alpha: float, abar: float, beta: float, noise: Tensor) -> Tensor:
    """The line with 1 in the place of the factor x; the term is still missing."""
    return 1 / math.sqrt(alpha) * (x - ((1 - alpha) / math.sqrt(1 - abar)) * eps)


@torch.inference_mode()
def chain(update: Update) -> Iterator[Tensor]:
    """Yields x_999 and then the result of each step of the loop of Fig. 6."""
    faces = load_faces()
    x, generators = starts()
    yield x
    for i in reversed(range(1, LINEAR.num_train_timesteps)):
        alpha, abar, beta = 1 - LINEAR.betas[i], LINEAR.alphas_cumprod[i], LINEAR.betas[i]
        noise = draw_noise(generators, SHAPE) if i > 1 else torch.zeros_like(x)
        x = update(x, faces.eps(x, i), alpha=float(alpha), abar=float(abar), beta=float(beta), noise=noise)
        yield x


def draw(out: Path) -> None:
    """Runs the printed line, the line without its factor, and the right chain, from the same seeds."""
    dying, lost = [], []
    for step, x in enumerate(chain(printed)):
        lost.append((step, float(x.isfinite().all(dim=1).logical_not().double().mean())))
        if step in SHOWN:
            dying.append(x[0])
        if not x.isfinite().any():
            break  # NaN stays NaN
    *_, quiet = chain(without_factor)
    right = right_chain()[0]
    captions = [f"{step}" for step in SHOWN[: len(dying)]]
    rows = [
        Row("x/√α · (x − …)\nstep", to_images(torch.stack(dying)), captions),
        Row("1/√α · (x − …)", to_images(quiet)),
        Row("1/√α · (x − …)\n+ √β z", to_images(right)),
    ]
    save_sheet(rows, out)
    show("pixels that are NaN or infinite, of four images", ("step", "share"), lost)
    spread = [(name, float(x.std(dim=0).mean())) for name, x in (("without the term", quiet), ("right", right))]
    show("standard deviation of a pixel from image to image", ("", "in [-1, 1]"), spread)
