"""Fig. 6, its loop: `reversed(range(1, T))` stops before index 0 (errata C4 and E13)."""

from pathlib import Path

import torch

from ..report import show
from .sheets import Row, save_sheet, to_images
from .shipped import LINEAR, load_faces, right_chain
from .update import without_factor

MAGNIFIED = 32


@torch.inference_mode()
def draw(out: Path) -> None:
    """Ends the right chain as the printed loop does, at i = 1 and without noise there, and shows the difference."""
    chain = right_chain()
    alpha, abar = float(1 - LINEAR.betas[1]), float(LINEAR.alphas_cumprod[1])
    # The noise of i = 1 is silent, so the line without the term is the whole line.
    stopped = without_factor(chain[2], load_faces().eps(chain[2], 1), alpha, abar)
    difference = stopped - chain[0]
    rows = [
        Row("t = 999 … 1", to_images(stopped)),
        Row("t = 999 … 0", to_images(chain[0])),
        Row(f"Δ · {MAGNIFIED}", to_images(MAGNIFIED * difference)),
    ]
    save_sheet(rows, out)
    levels = 127.5 * difference
    show(
        "what the loop leaves, in grey levels",
        ("", ""),
        [("root mean square", float(levels.square().mean().sqrt())), ("largest", float(levels.abs().max()))],
    )
