"""Recognises the layout of a state dict by the names of its tensors."""

from collections.abc import Collection
from typing import Literal

from ..errors import CheckpointError

Layout = Literal["guided", "guided_classifier", "ho", "dome", "edm", "edm2", "score_sde", "jit"]

MARKS: dict[str, Layout] = {
    "output_blocks.0.0.in_layers.0.weight": "guided",
    "input_blocks.0.0.weight": "guided_classifier",  # without output blocks
    "temb.dense.0.weight": "ho",
    "inc.double_conv.0.weight": "dome",
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
        "Ho et al. in PyTorch (pesser, ermongroup/ddim, DDRM, SDEdit), dome272, EDM, EDM2, score_sde, JiT; "
        "docs/own-network.md says how to serve any other network"
    )
