"""Weights under foreign names: the functions that the foreign layouts of the U-Net share."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

Weights = Mapping[str, Tensor]
ATTENTION = {"norm": "norm", "qkv": "qkv", "proj": "proj_out"}


def renamed(module: str, foreign: str, parts: Mapping[str, str]) -> dict[str, str]:
    """Returns the foreign names of a module's parts, by our names."""
    return {f"{module}.{ours}": f"{foreign}.{theirs}" for ours, theirs in parts.items()}


def count(weights: Weights, prefix: str) -> int:
    """Returns the number of modules below a foreign name, such as `down.0.block`."""
    return len({name.removeprefix(f"{prefix}.").split(".")[0] for name in weights if name.startswith(f"{prefix}.")})


def adopt(network: nn.Module, weights: Weights, modules: Mapping[str, str]) -> None:
    """Replaces a network's parameters, which may be on the meta device, by foreign ones; each is used exactly once.

    `modules` has the foreign names by ours, more than the network needs. A 1x1 convolution may have any number of
    dimensions. Raises CheckpointError if a tensor is missing, of another shape or left over.
    """
    state: dict[str, Tensor] = {}
    used = set()
    for name, parameter in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        foreign = f"{modules[module]}.{leaf}"
        tensor = tensor_of(weights, foreign)
        if _core(tensor) != _core(parameter):
            found, wanted = tuple(tensor.shape), tuple(parameter.shape)
            raise CheckpointError(f"the tensor {foreign} must have shape {wanted} to fit the others, not {found}")
        state[name] = tensor.reshape(parameter.shape)
        used.add(foreign)
    if unused := weights.keys() - used:
        raise CheckpointError(f"the checkpoint holds a tensor that does not belong to this network: {min(unused)}")
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()


def reorder_attention(network: nn.Module, kind: type[nn.Module], *, axis: int) -> None:
    """Reorders qkv of every attention of this kind to our [3, heads, C], from an order that has the 3 at `axis`."""
    for module in network.modules():
        if isinstance(module, kind):
            sizes = [getattr(module, "heads", 1), -1]
            sizes.insert(axis, 3)
            for parameter in module.get_submodule("qkv").parameters():
                parts = torch.unflatten(parameter.data, 0, sizes)
                parameter.data = parts.movedim(axis, 0).flatten(0, 2).contiguous()


def tensor_of(weights: Weights, name: str) -> Tensor:
    """Returns a tensor that the layout must have; raises CheckpointError if the tensor is missing."""
    if name not in weights:
        raise CheckpointError(f"the checkpoint lacks the tensor {name}: it is damaged or of an unknown variant")
    return weights[name]


def size_of(weights: Weights, name: str, axis: int) -> int:
    """Returns the length of one axis of a tensor that the layout must have; raises CheckpointError if it has none."""
    shape = tensor_of(weights, name).shape
    if axis >= len(shape):
        raise CheckpointError(f"the tensor {name} must have more than {axis} dimensions in this layout")
    return shape[axis]


def _core(tensor: Tensor) -> list[int]:
    """Returns the shape without its trailing ones."""
    shape = list(tensor.shape)
    while shape and shape[-1] == 1:
        shape.pop()
    return shape
