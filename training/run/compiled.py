"""A compiled network, whose gradients are compared with PyTorch's own before the first step.

A compiler may make whole levels of a network learn nothing, as PyTorch 2.13 does where a resolution is doubled by
`interpolate` in bfloat16 on a CPU. Such a run learns slowly, or diverges after hours, and nothing says why.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._functorch import config as functorch

from ..errors import RecipeError

STIR = 0.02  # standard deviation of what is added to the weights, since a network may begin with zeros that hide errors
# Of a gradient's norm. Rounding to bfloat16 changes each product by 1/256, and a gradient by a twentieth.
TOLERANCE = 0.5
NEGLIGIBLE = 1e-3  # of the largest gradient's norm


class CompiledNetwork:
    """Calls a network compiled; its first call compares the gradients.

    Args:
        call: the network as the trainer calls it, which processes may share.
        network: the network itself, whose weights are stirred for the comparison and put back.
    """

    def __init__(self, call: nn.Module, network: nn.Module) -> None:
        self._call = call
        # The trainer goes backward without autocast, as PyTorch recommends. A compiler that takes the number format of
        # the way forward would round the gradients of layers that are kept in float32.
        self._compiled = functorch.patch(backward_pass_autocast="off")(torch.compile(call))
        self._network = network
        self._is_checked = False

    def __call__(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Returns the output of the network.

        Raises RecipeError at the first call if the compiled network has other gradients.
        """
        if not self._is_checked:
            self._check(inputs, named)
            self._is_checked = True
        out: Tensor = self._compiled(*inputs, **named)
        return out

    def _check(self, inputs: Sequence[Tensor], named: dict[str, Tensor]) -> None:
        def gradients(call: Callable[..., Tensor]) -> list[Tensor]:
            error = call(*inputs, **named).float().square().mean()
            with torch.autocast(error.device.type, enabled=False):  # as in training
                torch.autograd.backward(error)
            # Copies, because processes that share the work keep all gradients in the same memory.
            found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self._network.parameters()]
            self._network.zero_grad(set_to_none=True)
            return found

        with torch.enable_grad(), torch.random.fork_rng(), _stirred(self._network):
            own, again, compiled = (gradients(call) for call in (self._call, self._call, self._compiled))
        if differing(own, again):
            return  # there is dropout, or another choice by chance
        if number := differing(own, compiled):
            raise RecipeError(
                f"torch.compile computes other gradients than PyTorch for {number} of {len(own)} weights here: set "
                "precision to float32, or compile to false"
            )


def differing(gradients: Sequence[Tensor], others: Sequence[Tensor]) -> int:
    """Returns the number of gradients that differ by more than rounding explains."""
    norms = [float(gradient.norm()) for gradient in gradients]
    least = NEGLIGIBLE * max(norms)
    pairs = zip(gradients, others, norms, strict=True)
    return sum(not float((one - other).norm()) <= TOLERANCE * norm + least for one, other, norm in pairs)


@contextmanager
def _stirred(network: nn.Module) -> Iterator[None]:
    """Adds noise to the weights within the block; afterwards they and the buffers are as before."""
    tensors = [*network.parameters(), *network.buffers()]
    kept = [tensor.detach().clone() for tensor in tensors]
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(STIR * torch.randn_like(parameter))
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, own in zip(tensors, kept, strict=True):
                tensor.copy_(own)
