"""The networks that guide a model's own: its classifier, and its weaker network."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.errors import NonFiniteSample
from model.foreign.config import ForeignConfig
from model.networks.classifier import log_prob_gradient
from model.transfers import upload

from ..device.calls import Network, by_position, example_batch, padded
from ..device.parallel import ParallelNetwork
from ..device.precision import computing, precision_on, prepare
from .batch_sizes import alike_anywhere


class SideNetwork:
    """A network that is called for some of the images of a batch, with batch sizes of its own.

    Most images do without it, so its sizes do not limit those of the model's network. They are fewer, because backward
    passes agree at fewer sizes.

    Args:
        network: the network, from a batch of arguments to a batch of outputs.
        device: the device that computes.
        sizes: the batch sizes to choose from, rising.
        example: arguments for a batch of the largest size.
        exact: whether only sizes are used that agree bit for bit with the largest.
        foreign: whether the network is of another package, which may mix the images of a batch: then it is called for
            one at a time.

    Raises NonFiniteSample if it returns NaN or infinity for the example.
    """

    def __init__(
        self,
        network: ParallelNetwork,
        device: torch.device,
        sizes: Sequence[int],
        example: Sequence[Tensor],
        *,
        exact: bool,
        foreign: bool = False,
    ) -> None:
        self._network = network
        self._device = device
        self._sizes = sorted({1, *sizes}) if foreign else sizes
        found = {size: self._first(size, example) for size in self._sizes}
        if not torch.isfinite(found[sizes[-1]]).all():
            raise NonFiniteSample("a network that guides returns NaN or infinity for noise")
        if exact:
            alike = [size for size in found if not foreign or alike_anywhere(self._first, example, found[size])]
            alike = alike or [sizes[-1]]  # no size is alike where even the same call gives other bits again
            self._sizes = [size for size in alike if torch.equal(found[size], found[alike[-1]][:size])]
        network.find_choices({size: found[size] for size in self._sizes}, example, exact=exact)

    def __call__(self, *batch: Tensor) -> Tensor:
        """Returns the outputs of a batch, whose arguments may be on any device; too large a batch is split."""
        count, largest = len(batch[0]), self._sizes[-1]
        if count > largest:
            return torch.cat([self._first(largest, batch), self(*(each[largest:] for each in batch))])
        size = next(size for size in self._sizes if size >= count)
        return self._network(*(padded(upload(each, self._device), size) for each in batch))[:count]

    def _first(self, size: int, batch: Sequence[Tensor]) -> Tensor:
        """Returns the outputs for the first rows of a batch."""
        return self(*(each[:size] for each in batch))


@torch.inference_mode()
def side_networks(
    checkpoint: Checkpoint,
    device: torch.device,
    sizes: Sequence[int],
    compiled: Mapping[int, Callable[..., Tensor]],
    parallel: Callable[[Callable[..., Tensor]], ParallelNetwork],
    *,
    exact: bool,
) -> tuple[SideNetwork | None, SideNetwork | None]:
    """Makes the classifier, from (x_t, t, labels) to the gradient of log p(y | x_t), and the weaker network.

    Each is None if the model has none. They are warm. `compiled` are compiled weaker networks by batch size, and
    `parallel` says which cores compute; see `SideNetwork` for the other arguments.
    """
    x, timesteps, told = example_batch(checkpoint.config, sizes[-1])
    make = partial(SideNetwork, device=device, sizes=sizes, exact=exact)
    classifier = weaker = None
    if checkpoint.classifier is not None:
        labels = torch.zeros(len(x), dtype=torch.int64)
        classifier = make(parallel(_gradient_of(checkpoint, device)), example=(x, timesteps, labels))
    if checkpoint.weaker_version is not None:
        call = by_position(checkpoint.weaker_version, device, compiled)
        foreign = isinstance(checkpoint.config.weaker, ForeignConfig)
        weaker = make(parallel(call), example=(x, timesteps, *told.values()), foreign=foreign)
    return classifier, weaker


@torch.inference_mode(False)  # whose tensors have no gradients
def _gradient_of(checkpoint: Checkpoint, device: torch.device) -> Network:
    """Returns the classifier's gradient, from (x_t, t, labels); see `log_prob_gradient`."""
    assert checkpoint.classifier is not None
    precision = precision_on(device, checkpoint.config)
    if precision == "bfloat16":
        classifier = prepare(checkpoint.classifier, device, precision)
    else:  # in the memory format of always, on which its bits depend
        classifier = checkpoint.classifier.to(device)

    def gradient(x: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        with computing(device, precision):
            return log_prob_gradient(classifier, x, timesteps, labels)

    return gradient
