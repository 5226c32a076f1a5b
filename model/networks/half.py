"""Networks that compute in bfloat16.

Features are bfloat16 from the first convolution to the last one. In float32 remain what is small, or where rounding
shows: the embeddings of time and class, the sums of normalisations (but those of `edm2_unet`), softmax and the last
convolution, so that the output is float32 too. No weight is cast in a call: layers whose weights are float32
(`LastConvolution`, `RowLinear` and normalisations) cast their input, and where an embedding meets features, its few
numbers are cast.
"""

import torch
from torch import nn

from .layers import GroupNorm, LastConvolution, LayerNorm, RMSNorm, RowLinear

FLOAT32 = (RowLinear, LastConvolution, GroupNorm, LayerNorm, RMSNorm, nn.Embedding)


def to_bfloat16(network: nn.Module) -> None:
    """Puts the weights of large layers in bfloat16. Inputs and outputs stay float32; training is no longer possible."""
    exact = exact_names(network)
    for path, module in network.named_modules():
        if isinstance(module, FLOAT32):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if f"{path}.{name}".removeprefix(".") not in exact:
                parameter.data = parameter.data.to(torch.bfloat16)


def exact_names(network: nn.Module) -> set[str]:
    """Returns the names in the state dict of the weights that a checkpoint keeps in float32, whatever its type.

    They are the frequencies and phases of Fourier embeddings. Multiplied by a timestep they are angles of many turns,
    so rounding one gives another angle. A module names its own such weights in `EXACT`.
    """
    return {
        f"{path}.{name}".removeprefix(".")
        for path, module in network.named_modules()
        for name in getattr(module, "EXACT", ())
    }
