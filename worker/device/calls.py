"""Calls of a network: in a number format, with a batch of one of the sizes in use, with an example, and their time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor, nn

from difuso.model.checkpoint import Checkpoint
from difuso.model.conditions import sequences_in
from difuso.model.folders.config import ModelConfig, Precision
from difuso.model.memory import move
from difuso.model.networks.configs import ForeignConfig
from difuso.model.networks.layers import pack_convolutions, to_bfloat16

Network = Callable[..., Tensor]
"""A network with its arguments by position: from a batch of arguments to a batch of outputs."""

_calling = Lock()  # whose holder decides about TF32, which PyTorch allows a whole process or none of it


def precision_on(device: torch.device, config: ModelConfig) -> Precision:
    """Returns the format in which a model's network is computed on a device.

    It is float32 in place of a format that cannot be: only a GPU has TF32, and only networks of difuso itself say which
    of their layers may be bfloat16.
    """
    match config.precision:
        case "tf32" if device.type != "cuda":
            return "float32"
        case "bfloat16" if isinstance(config.network, ForeignConfig):
            return "float32"
    return config.precision


def prepare(network: nn.Module, device: torch.device, precision: Precision) -> nn.Module:
    """Moves a network to its device and puts it in its number format; changes and returns it.

    Its images are to be in the memory format `channels_last`.
    """
    network = move(network, device)
    if precision == "bfloat16":
        to_bfloat16(network)
    return network


@contextmanager
def computing(device: torch.device, precision: Precision) -> Iterator[None]:
    """Lets a GPU round products to TF32 if that is the format, and only then, until the context ends."""
    if device.type != "cuda":
        yield
        return
    with _calling:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        yield


def by_position(checkpoint: Checkpoint, device: torch.device) -> Network:
    """Returns a model's denoiser, moved to a device in the number format of its config, with arguments by position."""
    names, precision = checkpoint.config.input_names, precision_on(device, checkpoint.config)
    denoiser = prepare(checkpoint.denoiser, device, precision)
    pack_convolutions(denoiser)

    def call(x: Tensor, timesteps: Tensor, *inputs: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with computing(device, precision):
            out: Tensor = denoiser(x, timesteps, **dict(zip(names, inputs, strict=True)))
        return out

    return call


def padded(batch: Tensor, size: int) -> Tensor:
    """Repeats the last row until there are `size` rows; the results of the added rows are thrown away."""
    missing = size - len(batch)
    return batch if not missing else torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])


def example_batch(config: ModelConfig, size: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Returns x_t, timesteps, and the network's other arguments by name; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((size, *config.shape), generator=generator)
    timesteps = torch.randint(0, config.schedule.num_train_timesteps, (size,), generator=generator).float()
    seen = (size, config.network.condition_channels, *x.shape[2:])
    most, width = next(((each.most, each.width) for each in sequences_in(config.conditions).values()), (0, 0))
    mask = torch.arange(most) <= torch.arange(size)[:, None] % max(most, 1)  # of 1, 2, … vectors
    examples = {
        "labels": lambda: torch.zeros(size, dtype=torch.int64),
        "vector": lambda: torch.randn((size, config.network.vector_size), generator=generator),
        "planes": lambda: torch.randn(seen, generator=generator),
        "level": lambda: torch.zeros(size),
        "sequence": lambda: torch.randn((size, most, width), generator=generator) * mask[..., None],
        "sequence_mask": lambda: mask,
    }
    return x, timesteps, {name: examples[name]() for name in config.input_names}


class CallTimer:
    """Makes the network calls of one model and finds how long each took.

    On a GPU the time is known one call later. While the GPU computes a call, the host prepares and queues the next one,
    and waits only for the call before. If the host were further ahead, a new job would only wait longer.

    Attributes:
        over: the rows, the size of the batch and the seconds of each call that is over, for whoever empties it.
    """

    def __init__(self, device: torch.device) -> None:
        self.over: list[tuple[int, int, float]] = []
        self._device = device
        self._pending: tuple[int, int, torch.cuda.Event, torch.cuda.Event] | None = None

    def __call__(self, call: Callable[[], Tensor], *, rows: int, bucket: int) -> Tensor:
        """Returns the output of a call. It is over then, or on a GPU the one before is."""
        if self._device.type != "cuda":
            begun = time.perf_counter()
            out = call()
            if self._device.type != "cpu":  # Apple's GPU, which has no events that can be asked for their time
                torch.accelerator.synchronize(self._device)
            self.over.append((rows, bucket, time.perf_counter() - begun))
            return out
        stream = torch.cuda.current_stream(self._device)  # the events' own would be that of another GPU
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        started.record(stream)
        out = call()
        ended.record(stream)
        before, self._pending = self._pending, (rows, bucket, started, ended)
        if before is not None:
            rows, bucket, started, ended = before
            ended.synchronize()
            self.over.append((rows, bucket, started.elapsed_time(ended) / 1000))
        return out
