"""Checkpoints of other repositories without their files: weights that are drawn again from the names of the tensors.

A fixture in `tests/fixtures` holds the names and shapes of a reference class's state dict, the arguments that it was
built with, and its outputs for the same weights and inputs. Its `about` names the class and the commit.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Reference:
    """One fixture.

    Attributes:
        weights: the state dict.
        about: the source of the outputs, and `facts`, the sidecar of such a checkpoint.
        outputs: the outputs of the reference class, by name.
    """

    weights: dict[str, Tensor]
    about: dict[str, Any]
    outputs: dict[str, Tensor]


@cache
def reference(name: str) -> Reference:
    """Reads a fixture and draws its weights; a test that changes them makes a copy first."""
    with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as file:
        shapes: dict[str, list[int]] = json.loads(file["shapes"].item())
        outputs = {key: torch.from_numpy(file[key]) for key in file.files if key not in ("about", "shapes")}
        about = json.loads(file["about"].item())
    return Reference({key: weight(key, *shape) for key, shape in shapes.items()}, about, outputs)


def weight(name: str, *shape: int) -> Tensor:
    """Returns a weight that keeps activations near 1; none is zero, unlike the last weights of fresh networks."""
    drawn = noise(name, *shape)
    if len(shape) > 1:
        return drawn / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.1 * drawn if name.endswith("weight") else 0.1 * drawn


def noise(name: str, *shape: int) -> Tensor:
    """Returns standard normal noise, the same each time for a name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
