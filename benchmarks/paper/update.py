"""Fig. 6, its update: the factor x and the term sqrt(beta) z (erratum C3)."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..report import show
from .sheets import Row, save_sheet, to_images
from .shipped import LINEAR, load_faces, right_chain, starts

SHOWN = (0, 1, 2, 4, 6, 7)  # steps of the printed chain, which is NaN from 7 on


def printed(x: Tensor, eps: Tensor, alpha: float, abar: float) -> Tensor:
    """The printed line: from x_i, the predicted noise, alpha_i and abar_i; beta_i and z are made and not used."""
    return x / math.sqrt(alpha) * (x - ((1 - alpha) / math.sqrt(1 - abar)) * eps)


def without_factor(x: Tensor, eps: Tensor, alpha: float, abar: float) -> Tensor:
    """The line with 1 in the place of the factor x; the term is still missing."""
    return 1 / math.sqrt(alpha) * (x - ((1 - alpha) / math.sqrt(1 - abar)) * eps)


@torch.inference_mode()
def chain(update: Callable[[Tensor, Tensor, float, float], Tensor]) -> Iterator[Tensor]:
    """Yields x_999 and then the result of each step of the loop of Fig. 6."""
    faces = load_faces()
    x = starts()
    yield x
    for i in reversed(range(1, LINEAR.num_train_timesteps)):
        x = update(x, faces.eps(x, i), float(1 - LINEAR.betas[i]), float(LINEAR.alphas_cumprod[i]))
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
