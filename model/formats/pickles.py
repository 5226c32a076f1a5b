"""State dicts out of PyTorch's pickle files, of which nothing but tensors and plain containers is ever built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

# Where training scripts put the weights beside other things; averaged ones first, because those make the pictures.
WRAPPERS = ("ema", "ema_state_dict", "state_dict", "model", "model_state_dict")


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The state dict in a .pt, .pth, .bin or .ckpt file, on the CPU.

    Known wrappers are taken off: a dictionary with the weights under one of `WRAPPERS`, the list
    [weights, optimizer, epoch, step, averaged weights] of ermongroup/ddim, and DataParallel's prefix `module.`

    Raises:
        CheckpointError: if the file holds, or asks for, anything but that.
    """
    if path.suffix == ".pkl":
        raise CheckpointError(
            "a .pkl file, as EDM writes it, brings the network's code along and runs it when it is loaded, so it is "
            "not even opened; save the network's state dict as a .pt file with EDM's own code"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged or hostile bytes do to the unpickler
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise CheckpointError("the file cannot be read: it is damaged, or not made by torch.save") from error
        raise CheckpointError(
            f"the file asks for {wanted[1]}: it holds more than tensors, and to load that could run code"
        ) from error
    return _tensors(_unwrapped(content))


def _unwrapped(content: Any) -> Any:
    if isinstance(content, list) and content:
        content = content[-1] if isinstance(content[-1], Mapping) else content[0]
    if isinstance(content, Mapping):
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), content)
    return content


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"the file holds no state dict but a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(f"the file holds no state dict: {key!r} is a {kind}, not weights")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value for key, value in content.items()}
