"""A network in batches of a few sizes, whose outputs agree bit for bit: it is warmed up, padded, split and timed."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from difuso.model.errors import NonFiniteSample
from difuso.model.memory import upload

from ..device.calls import CallTimer, padded
from ..device.cores import ParallelNetwork

log = logging.getLogger(__name__)

WORTH = 0.95  # share of the best rate that the slots must reach
LONGEST_STEP = 1.0  # seconds; a new job waits for the step that runs, and a cancelled one ends after it
QUICK_STEP = 0.1  # seconds that nobody feels; the more jobs share such steps, the less each costs


@dataclass(frozen=True)
class Sizes:
    """What the warm-up of a network found: the seconds of a call by batch size, and which sizes any cores compute."""

    seconds: Mapping[int, float]
    choices: frozenset[int]


@dataclass(frozen=True)
class WarmUp:
    """What the warm-up of a model found; None for the networks that it lacks."""

    network: Sizes
    classifier: Sizes | None
    weaker: Sizes | None
    rate: float
    step_seconds: float


class BatchedNetwork:
    """A network that is warm, and may be called with any number of images.

    CPU and GPU kernels give the same bits for any neighbours and any place in a batch of one size, but the bits may
    differ between sizes. In exact mode only sizes that agree with each other are used; the warm-up finds them.

    Args:
        name: the words for the network in messages.
        network: the network, from a batch of arguments to a batch of outputs.
        example: arguments for a batch of the largest size, on the device.
        sizes: the batch sizes to choose from, rising.
        agreeing: returns the sizes that agree, from the outputs of the first images of the example by size.
        most: returns the largest size to use, from the seconds of a call by size.
        exact: whether to use only sizes that agree bit for bit.
        foreign: whether the network is of another package, which may mix the images of a batch.
        known: what an earlier warm-up of the same network in this process found, which is not repeated; None for none.
        give_way: function that is called before each size is measured; it may wait.

    Attributes:
        sizes: the batch sizes in use, rising; fewer after the memory ran out.
        seconds: the seconds of a call at warm-up, by size.

    Raises NonFiniteSample if the network returns NaN or infinity for the example.
    """

    def __init__(
        self,
        name: str,
        network: ParallelNetwork,
        *,
        device: torch.device,
        example: Sequence[Tensor],
        sizes: Sequence[int],
        agreeing: Callable[[Mapping[int, Tensor]], list[int]],
        most: Callable[[Mapping[int, float]], int] = max,
        exact: bool,
        foreign: bool,
        timer: CallTimer,
        give_way: Callable[[], None],
        known: Sizes | None = None,
    ) -> None:
        self._network, self._device, self._timer, self._give_way = network, device, timer, give_way
        self.seconds: Mapping[int, float]
        if known is not None:
            self.seconds, network.choices = known.seconds, known.choices
            self.sizes = tuple(known.seconds)
            return
        reference = self._first(sizes[-1], example)
        if not torch.isfinite(reference).all():
            raise NonFiniteSample(f"{name} returns NaN or infinity for noise")
        found = {size: self._timed(size, example) for size in sizes}
        outs = {size: out for size, (out, _) in found.items()}
        if not torch.equal(outs[sizes[-1]], reference):
            log.warning("the same batch gave other bits the second time: images are not repeatable on this device")
            alike = {}
        else:
            alike = {n: out for n, out in outs.items() if not foreign or alike_anywhere(self._first, example, out)}
        # Only outputs decide which sizes agree, so no measurement of time affects an image.
        agreed = agreeing(alike) if alike else sizes[-1:]
        seconds = {size: found[size][1] for size in (agreed if exact else sizes)}
        largest = most(seconds)
        self.seconds = {size: spent for size, spent in seconds.items() if size <= largest}
        self.sizes = tuple(self.seconds)
        network.find_choices({size: outs[size] for size in self.sizes}, example, exact=exact)

    @property
    def found(self) -> Sizes:
        """What the warm-up found."""
        return Sizes(self.seconds, self._network.choices)

    def __call__(self, *batch: Tensor) -> Tensor:
        """Returns the outputs of a batch in float32; its arguments may be on any device.

        Makes one padded call, or several if there are too many rows or too little memory for one.
        """
        rows, largest = len(batch[0]), self.sizes[-1]
        if rows > largest:
            first = self(*(each[:largest] for each in batch))
            return torch.cat([first, self(*(each[largest:] for each in batch))])
        size = next(size for size in self.sizes if size >= rows)
        out = None
        try:
            out = self._timer(
                lambda: self._network(*(upload(padded(each, size), self._device) for each in batch)),
                rows=rows,
                bucket=size,
            )
        except torch.OutOfMemoryError:
            if size == self.sizes[0]:
                raise
        if out is None:  # outside the handler, whose traceback would keep the memory of the failed call
            self._give_up(size)
            return self(*batch)
        return out[:rows].float()

    def measured(self, size: int, example: Sequence[Tensor]) -> float:
        """Returns the seconds of a call with a batch of this size."""
        return self._timed(size, example)[1]

    def _timed(self, size: int, example: Sequence[Tensor]) -> tuple[Tensor, float]:
        self._give_way()
        return timed(partial(self._first, size, example))

    @torch.inference_mode()
    def _first(self, size: int, batch: Sequence[Tensor]) -> Tensor:
        """Returns the outputs for the first rows of a batch, once they are computed."""
        out = self._network(*(each[:size] for each in batch))
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return out.float()

    def _give_up(self, size: int) -> None:
        self.sizes = tuple(each for each in self.sizes if each < size)
        log.warning("no memory for batches of %d; going on with batches of %s", size, self.sizes)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def timed(call: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Makes a call, twice if it was quick, because the first one also prepares; returns the output and the seconds."""
    started = time.perf_counter()
    out = call()
    seconds = time.perf_counter() - started
    if seconds > QUICK_STEP:  # to prepare hardly counts
        return out, seconds
    started = time.perf_counter()
    call()
    return out, min(seconds, time.perf_counter() - started)


def most_agreeing(outs: Mapping[int, Tensor]) -> list[int]:
    """Returns the largest set of batch sizes whose outputs, for one batch, agree; of equals, that of larger sizes."""
    groups = [agreeing_with_largest({n: outs[n] for n in outs if n <= largest}) for largest in outs]
    return max(groups, key=lambda group: (len(group), group[-1]))


def agreeing_with_largest(outs: Mapping[int, Tensor]) -> list[int]:
    """Returns the batch sizes whose outputs agree bit for bit with those of the largest."""
    whole = outs[max(outs)]
    return [size for size, out in outs.items() if torch.equal(out, whole[:size])]


def alike_anywhere(call: Callable[[int, Sequence[Tensor]], Tensor], batch: Sequence[Tensor], out: Tensor) -> bool:
    """Returns whether an image gets the same bits at another place of a batch, and beside other images.

    With our networks it does. One of another package may normalise over the batch, or compute a function of a few
    numbers, the last of which PyTorch may round otherwise.

    Args:
        call: the network, called with a size and the arguments of a batch of at least this size.
        batch: x_t, and the other arguments.
        out: the outputs for the first images of the batch.
    """
    x, *others = (each[: len(out)].flip(0) for each in batch)
    kept = (len(out) + 1) // 2
    moved = call(len(out), [torch.cat([x[:kept], 3 * x[kept:]]), *others])
    return torch.equal(moved[:kept], out.flip(0)[:kept])


def useful_size(seconds: Mapping[int, float]) -> int:
    """Returns the batch size beyond which images per second hardly rise, from the seconds of a call by size.

    Smaller batches have shorter steps, in which a new job waits less.
    """
    smallest = min(seconds)
    rates = {size: size / spent for size, spent in seconds.items() if spent <= LONGEST_STEP or size == smallest}
    enough = min(size for size, rate in rates.items() if rate >= WORTH * max(rates.values()))
    return max([enough, *(size for size, spent in seconds.items() if spent <= QUICK_STEP)])


def every_fourth(largest: int) -> list[int]:
    """Returns all sizes up to 8, then every fourth: on a CPU padding costs time, like warming up each size."""
    return sorted({*range(1, min(8, largest) + 1), *range(12, largest, 4), largest})


def powers_of_two(largest: int) -> list[int]:
    return sorted({*(2**i for i in range(largest.bit_length())), largest})
