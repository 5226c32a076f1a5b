"""A worker that certain jobs kill, as a bug in a kernel or a GPU would; `python -m benchmarks.chaos.poison` runs it.

difuso itself has nothing of the kind. This program is `difuso worker` with another `UNet.forward`, which ends the
process with SIGKILL when the network is called with a fatal class. `chaos_model` writes a checkpoint with such classes.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .orders import CLASSES, FATAL, FATAL_LATE

if TYPE_CHECKING:
    from torch import Tensor

LATE_TIMESTEP = 500  # the second kind lets the first half of its run pass


def chaos_model(folder: Path, *, seed: int = 0) -> Path:
    """Writes a tiny checkpoint with random weights of a seed and the classes above; returns its folder."""
    from benchmarks.models import random_model
    from difuso.model import ModelConfig
    from difuso.model.networks.configs import UNetConfig

    network = UNetConfig(
        channels=16, channel_mult=(1, 2), attention_levels=(1,), head_channels=8, groups=4, num_classes=len(CLASSES)
    )
    # With random weights, v keeps x0 inside [-1, 1] where eps would clip nearly all of it to black and white.
    config = ModelConfig(network=network, image_size=16, prediction="v", classes=CLASSES)
    return random_model(folder, config, seed=seed)


def poison_networks() -> None:
    """Makes every network of this process kill it on a fatal class, given by position or by name."""
    from difuso.model.networks.unet import UNet

    harmless = UNet.forward
    parameters = inspect.signature(harmless)

    @functools.wraps(harmless)
    def forward(*arguments: Any, **named: Any) -> Tensor:
        given = parameters.bind(*arguments, **named).arguments
        kill_where_fatal(given["t"], given["labels"])
        return harmless(*arguments, **named)

    UNet.forward = forward  # type: ignore[method-assign]


def kill_where_fatal(timesteps: Tensor, labels: Tensor) -> None:
    """Ends the process if an image of a call has a fatal class."""
    fatal = labels == CLASSES.index(FATAL)
    late = (labels == CLASSES.index(FATAL_LATE)) & (timesteps <= LATE_TIMESTEP)
    if bool((fatal | late).any()):
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Runs `difuso worker` with poisoned networks."""
    from difuso.__main__ import heed_signals

    heed_signals()  # before torch is imported, as `difuso worker` does
    from difuso.cli import main as difuso

    poison_networks()
    sys.argv = ["difuso", "worker"]
    difuso()


if __name__ == "__main__":
    main()
