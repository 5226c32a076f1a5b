"""The fixtures of lucidrains' layout: their runs, and their trained checkpoint."""

from __future__ import annotations

import lzma
from pathlib import Path

from tests.foreign import FIXTURES

OBJECTIVES = {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}  # and our names
SCHEDULES = ("linear", "cosine", "sigmoid")
TIMESTEPS = 40
DDIM_STEPS, ETA = 10, 0.5
SEEDS = (7, 8)
TRAINED_STEPS = 20  # of 100
TRAINED_SEEDS = (1234, 1235, 1236, 1237)


def trained_checkpoint(path: Path) -> Path:
    """Writes the file of lucidrains' trainer, and returns its path."""
    path.write_bytes(lzma.decompress((FIXTURES / "lucid_trained.pt.xz").read_bytes()))
    return path
