"""The sizes of batches: those to try, those that agree bit for bit, and those that are worth their time."""

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

WORTH = 0.95  # share of the best rate that the slots must reach
LONGEST_STEP = 1.0  # seconds; a new job waits for the step that runs, and a cancelled one ends after it
QUICK_STEP = 0.1  # seconds that nobody feels; the more jobs share such steps, the less each costs


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
    """Returns the largest set of batch sizes whose outputs agree bit for bit; of equals, that with the largest size.

    Args:
        outs: the output of the first images of one batch by batch size, rising.
    """
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
    """Returns the batch size beyond which images per second hardly rise, as long as a step is short enough.

    Smaller batches have shorter steps, in which a new job waits less.

    Args:
        seconds: the seconds of a call by batch size.
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
