"""Reads state dicts from PyTorch's pickle files, and recognises their layouts by the names of the tensors.

Only tensors and plain containers are built, never other objects.
"""

import re
from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError
from . import score_sde

Layout = Literal["guided", "guided_classifier", "ho", "edm", "edm2", "score_sde", "jit"]

MARKS: dict[str, Layout] = {
    "output_blocks.0.0.in_layers.0.weight": "guided",
    "input_blocks.0.0.weight": "guided_classifier",  # without output blocks
    "temb.dense.0.weight": "ho",
    "model.map_layer0.weight": "edm",
    "unet.emb_noise.weight": "edm2",
    "all_modules.0.weight": "score_sde",
    "all_modules.0.W": "score_sde",  # with Fourier features
    "net.x_embedder.proj1.weight": "jit",
    "x_embedder.proj1.weight": "jit",  # a JiT without its Denoiser
}
STRANGERS = {
    "time_embedding.linear_1.weight": "of a diffusers network: name its folder, which holds the config",
    "model.diffusion_model.input_blocks.0.0.weight": "of a latent diffusion model, but difuso works on pixels",
    "time_mlp.0.weight": "of a difuso network: name its folder, which holds the config",
}

# Keys under which training scripts save the weights; averaged weights first, because those draw the images.
WRAPPERS = ("ema", "model_ema1", "ema_state_dict", "state_dict", "model", "model_state_dict")
# The prefix of the averaged weights in the state of an EMA of ema_pytorch, which holds all others too.
AVERAGED = "ema_model."


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Reads the state dict in a .pt, .pth, .bin or .ckpt file, on the CPU.

    Known wrappers are removed: a dictionary with the weights under one of `WRAPPERS`, the list
    [weights, optimizer, epoch, step, averaged weights] of ermongroup/ddim, the state of an EMA of ema_pytorch or of
    score_sde, and DataParallel's prefix `module.`

    Raises CheckpointError if the file holds anything but a state dict, or needs other classes to be loaded.
    """
    return _tensors(_unwrapped(read_content(path)))


def read_content(path: Path) -> Any:
    """Reads all of a file on the CPU; raises CheckpointError if it is damaged, or needs classes to be loaded."""
    if path.suffix == ".pkl":
        raise CheckpointError(
            "a .pkl file runs code when it is loaded, so it is never opened. If it is a network of EDM or EDM2 that "
            f"you trust, run `python -m difuso.export_edm {path.name} {path.stem}` with their repository on the "
            f"PYTHONPATH, and then `difuso convert {path.stem}.pt`"
        )
    try:
        with torch.serialization.safe_globals([Namespace]):  # training scripts save their arguments with the weights
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged or hostile bytes raise many kinds
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise CheckpointError("the file cannot be read: damaged, or not written by torch.save") from error
        raise CheckpointError(
            f"the file needs {wanted[1]}: it holds more than tensors, and to load the rest could run code"
        ) from error


def _unwrapped(content: Any) -> Any:
    if isinstance(content, list) and content:
        content = content[-1] if isinstance(content[-1], Mapping) else content[0]
    if isinstance(content, Mapping):
        if (averaged := score_sde.averaged(content)) is not None:
            return averaged
        content = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), content)
        prefixed = {str(name): value for name, value in content.items() if str(name).startswith(AVERAGED)}
        return {name.removeprefix(AVERAGED): value for name, value in prefixed.items()} or content
    return content


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"the file must hold a state dict, not a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(f"the file must hold a state dict: {key!r} is a {kind}, not a tensor of weights")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value for key, value in content.items()}


def layout_of(names: Collection[str]) -> Layout:
    """Returns the layout of a state dict with these names; raises CheckpointError if the layout is unknown."""
    for mark, layout in MARKS.items():
        if mark in names:
            return layout
    for mark, reason in STRANGERS.items():
        if mark in names:
            raise CheckpointError(f"these are weights {reason}")
    examples = ", ".join(sorted(names)[:3])
    raise CheckpointError(
        f"these weights have an unknown layout ({examples}, ...); known are improved-diffusion and guided-diffusion, "
        "Ho et al. in PyTorch (pesser, ermongroup/ddim, DDRM, SDEdit), EDM, EDM2, score_sde, JiT; "
        "docs/own-network.md says how to serve any other network"
    )
