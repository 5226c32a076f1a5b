"""Weights that a checkpoint keeps in float32 whatever its type.

They are the frequencies and phases of Fourier embeddings. Multiplied by a timestep they are angles of many turns, so
rounding one gives another angle. A module names its own such weights in `EXACT`.
"""

from __future__ import annotations

from torch import nn


def exact_names(network: nn.Module) -> set[str]:
    """Returns their names in the network's state dict."""
    return {
        f"{path}.{name}".removeprefix(".")
        for path, module in network.named_modules()
        for name in getattr(module, "EXACT", ())
    }
