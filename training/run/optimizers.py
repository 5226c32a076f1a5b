"""The optimisers and the average of weights.

The optimiser is AdamW; Muon for the matrices of the network, with AdamW for all else; or of another package.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from difuso.model.errors import ForeignError
from difuso.model.foreign.code import foreign_code, load
from difuso.model.foreign.names import is_foreign

from ..recipe import Recipe

Rates = list[dict[str, Any]]  # `lr` and `weight_decay` of each group of an optimiser's parameters, if it has them


class MatrixMuon(Muon):
    """Muon for the weights of convolutions and linear layers.

    A kernel of shape (out, in, kh, kw) counts as a matrix of shape (out, kh * kw * in), as its authors flatten it
    (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"). The size of a step is that of AdamW
    with the same learning rate (Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2). Weights of four
    dimensions lie in contiguous or in channels-last memory.
    """

    def __init__(self, weights: Sequence[Tensor], *, lr: float = 1e-3, weight_decay: float) -> None:
        # Detached tensors share memory and the count of changes with their weights, which compiled code relies on.
        self._matrices = [(weight, _as_matrix(weight.detach())) for weight in weights]
        matrices = [matrix for _, matrix in self._matrices]
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def take_gradients(self) -> None:
        """Gives the matrices views of the weights' gradients; called when these are complete."""
        for weight, matrix in self._matrices:
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)


def optimizers_of(recipe: Recipe, network: nn.Module) -> list[Optimizer]:
    """Makes the optimisers of a network in channels-last memory, with the learning rate and weight decay of a recipe.

    A function of another package is called as function(parameters, learning_rate, weight_decay), with a list of the
    parameters; ForeignError if it fails or returns no optimiser.
    """
    if is_foreign(recipe.optimizer):
        return [_own(recipe, network)]
    matrices = list(_matrices(network)) if recipe.optimizer == "muon" else []
    known = {id(weight) for weight in matrices}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
    adamw = AdamW(rest, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    if not matrices:
        return [adamw]
    return [adamw, MatrixMuon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)]


def _own(recipe: Recipe, network: nn.Module) -> Optimizer:
    name = recipe.optimizer
    function = load(name)
    with foreign_code(name, "be called"):
        optimizer = function([*network.parameters()], recipe.learning_rate, recipe.weight_decay)
    if not isinstance(optimizer, Optimizer) or not all("lr" in group for group in optimizer.param_groups):
        raise ForeignError(f"{name} must return a torch.optim.Optimizer whose groups have a learning rate, lr")
    return optimizer


def code_of(name: str, wanted: str) -> AbstractContextManager[None]:
    """Returns `foreign_code` if a recipe's optimiser is of another package, and else a context that does nothing."""
    return foreign_code(name, wanted) if is_foreign(name) else nullcontext()


def rates_of(optimizer: Optimizer) -> Rates:
    """Returns the rates of each group of parameters."""
    return [{key: group[key] for key in ("lr", "weight_decay") if key in group} for group in optimizer.param_groups]


def step(optimizer: Optimizer, rates: Rates, factor: float) -> None:
    """Takes a step with these rates, and with a factor of the learning rates."""
    for group, its in zip(optimizer.param_groups, rates, strict=True):
        group.update(its, lr=its["lr"] * factor)
    optimizer.step()


def state_of(optimizer: Optimizer, name: str) -> dict[str, Any]:
    """Returns the state of an optimiser; raises ForeignError if another package's cannot be saved."""
    state = optimizer.state_dict()
    if is_foreign(name) and not _is_plain(state):
        raise ForeignError(f"{name}: the state of its optimiser must be tensors, numbers and texts, to be saved")
    return state


def _is_plain(value: Any) -> bool:
    """Returns whether a value of a state consists of tensors and of types that `load_state` reads."""
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)


def _matrices(network: nn.Module) -> Iterator[Tensor]:
    """Yields the weights that Muon is for: not embeddings, nor the layers that see or make pixels."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    yield from (layer.weight for layer in convolutions[1:-1])
    yield from (layer.weight for layer in network.modules() if isinstance(layer, nn.Linear))


def _as_matrix(weight: Tensor) -> Tensor:
    """Returns a view of shape (out, all else); the order of columns, that in memory, makes no difference to Muon."""
    return (weight if weight.is_contiguous() else weight.permute(0, 2, 3, 1)).view(len(weight), -1)


class Ema:
    """Averages a network's weights in float32.

    The decay begins at 0.1 and rises, min(decay, (1 + n) / (10 + n)). So the average no longer holds the random initial
    weights after a few thousand updates. The first average are the present weights of the network.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """average = decay * average + (1 - decay) * weights. Buffers, such as means of a normalisation, are copied."""
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
        for buffer, newest in zip(self.network.buffers(), network.buffers(), strict=True):
            buffer.copy_(newest)
        self.updates += 1
