"""The runner: one loaded model on its device, which steps any mix of trajectories as one batch.

It is the only code that uses the device.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.config import Precision
from difuso.model.guidance import guided_output
from difuso.model.memory import keep_freed_memory, upload
from difuso.model.networks.classifier import Classifier, log_prob_gradient
from difuso.model.networks.configs import ForeignConfig
from difuso.model.networks.layers import bytes_of
from difuso.model.noise import Source, draw_noise
from difuso.model.plans.plan import Column
from difuso.model.step import advance, remembered

from ..device.calls import CallTimer, Network, by_position, computing, example_batch, precision_on, prepare
from ..device.cores import Core, ParallelNetwork
from ..settings import DeviceMissing
from .batched_network import (
    BatchedNetwork,
    WarmUp,
    agreeing_with_largest,
    every_fourth,
    most_agreeing,
    powers_of_two,
    useful_size,
)
from .trajectory import Trajectory

CPU_SLOTS, GPU_SLOTS = 16, 32
KEPT_SLOWNESS = 0.95  # of what earlier steps showed, after each step: the last twenty decide
SLOWEST_CALL = 4  # times the mean, as which a longer call counts: a process that was stopped is no slow network


def pick_device(name: str) -> torch.device:
    """Returns the device of a setting; `auto` is the first GPU if there is one, else the CPU.

    Raises DeviceMissing if torch cannot use the device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    there = {"cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    if (device.index or 0) >= there.get(device.type, 1):
        raise DeviceMissing(
            f"DIFUSO_DEVICE is {name}, and torch {torch.__version__} finds no such device here: unset it for the first "
            "GPU, or the CPU where there is none"
        )
    return device


class Slowness:
    """Compares the time of one model's steps with that alone, on an idle machine, in full batches.

    They take longer while other programs run, while the worker also steps other models, and in partial batches.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._expected = 0.0

    def note(self, seconds: float, *, expected: float) -> None:
        """Notes a step that took some seconds, and how many were expected."""
        self._seconds = KEPT_SLOWNESS * self._seconds + seconds
        self._expected = KEPT_SLOWNESS * self._expected + expected

    @property
    def factor(self) -> float:
        """The seconds that a step takes for each expected one; 1 before the first step."""
        return self._seconds / self._expected if self._expected else 1.0


class Runner:
    """A model that is warm.

    Args:
        checkpoint: the model, loaded on the CPU; its network is moved to `device`.
        device: the device that computes.
        slots: size of the largest batch that may be used; None for the size, of up to 16 on a CPU and 32 on a GPU,
            beyond which no more images per second were measured.
        exact: whether to use only batch sizes that agree bit for bit.
        neighbour: the core of the other worker on the machine.
        give_way: function that is called before each batch size is warmed up; it may wait for what is more urgent.
        known: what an earlier warm-up of this version in this process found, which is not repeated.

    Attributes:
        bytes: the memory that its weights take.
        used_at: time on the monotonic clock of its last step, or when it was made.
        precision: number format in which the networks are computed here.
        slots: size of the largest batch.
        rate: image-steps per second in full batches, kept up to date.
        step_seconds: seconds that a step of a lone image takes, on all cores that it may have; measured at warm-up.
        slowness: how much longer steps take now than by `rate` and `step_seconds`; the engine notes it.
        on_step: function that is called after each call of a network, on a GPU after the next one (`CallTimer`), with
            the rows, the bucket and the seconds.

    Raises NonFiniteSample if the network returns NaN or infinity for noise.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: torch.device,
        slots: int | None = None,
        exact: bool = True,
        neighbour: Core | None = None,
        give_way: Callable[[], None] = lambda: None,
        known: WarmUp | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device, self.precision = device, precision_on(device, checkpoint.config)
        self.slowness = Slowness()
        self.on_step: Callable[[int, int, float], None] = lambda rows, bucket, seconds: None
        self._input_names = checkpoint.config.input_names
        if device.type == "cpu":
            keep_freed_memory()
        parallel = partial(ParallelNetwork, neighbour=neighbour or Core(None), may_choose=device.type == "cpu")
        self._timer = CallTimer(device)
        batched = partial(BatchedNetwork, device=device, exact=exact, timer=self._timer, give_way=give_way)
        torch.backends.cudnn.deterministic = exact
        largest = slots or (CPU_SLOTS if device.type == "cpu" else GPU_SLOTS)
        example = _example(checkpoint, largest, device)
        self._network = batched(
            "the network",
            parallel(by_position(checkpoint, device)),
            example=example,
            sizes=(every_fourth if device.type == "cpu" else powers_of_two)(largest),
            agreeing=most_agreeing,
            most=useful_size if slots is None else max,
            foreign=isinstance(checkpoint.config.network, ForeignConfig),
            known=None if known is None else known.network,
        )
        self.slots = self.buckets[-1]
        # Most images do without the networks that guide, so their sizes do not limit those of the model's own. They are
        # fewer, because backward passes agree at fewer sizes.
        guiding = partial(batched, "a network that guides", agreeing=agreeing_with_largest)
        self._classifier: BatchedNetwork | None = None
        self._weaker: BatchedNetwork | None = None
        guided = _example(checkpoint, self.slots, device)
        if checkpoint.classifier is not None:
            gradient = parallel(_gradient_of(checkpoint.classifier, device, self.precision))
            labels = torch.zeros(self.slots, dtype=torch.int64, device=device)
            labelled, found = [*guided[:2], labels], None if known is None else known.classifier
            self._classifier = guiding(gradient, example=labelled, sizes=self.buckets, foreign=False, known=found)
        if checkpoint.weaker_version is not None:
            weaker = parallel(by_position(checkpoint.weaker_version, device))
            foreign = isinstance(checkpoint.config.weaker, ForeignConfig)
            sizes = sorted({1, *self.buckets}) if foreign else self.buckets  # perhaps it is called for one at a time
            found = None if known is None else known.weaker
            self._weaker = guiding(weaker, example=guided, sizes=sizes, foreign=foreign, known=found)
        if known is None:
            self.rate = self.slots / self._network.seconds[self.slots]
            smallest = self.buckets[0]
            self.step_seconds = min(self._network.seconds[smallest], self._network.measured(smallest, example))
        else:
            self.rate, self.step_seconds = known.rate, known.step_seconds
        networks = checkpoint.denoiser, checkpoint.classifier, checkpoint.weaker
        self.bytes = sum(bytes_of(each) for each in networks if each is not None)
        self.used_at = time.monotonic()

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes in use, rising; the last is `slots`, or smaller after the memory ran out."""
        return self._network.sizes

    @property
    def warm_up(self) -> WarmUp:
        """What the warm-up found, with the rate of now."""
        classifier, weaker = (each.found if each else None for each in (self._classifier, self._weaker))
        return WarmUp(self._network.found, classifier, weaker, self.rate, self.step_seconds)

    @torch.inference_mode()
    def step(self, trajectories: Sequence[Trajectory]) -> None:
        """Advances each trajectory by one row, all in one network call; if it fails, they are unchanged.

        Nothing here waits for a GPU, except for the call before this one: all decisions are in the plans, and the noise
        is drawn while the network computes.
        """
        self.used_at = time.monotonic()
        x = torch.stack([t.x for t in trajectories])
        # float32 holds every whole timestep exactly, and fractional timesteps too.
        timesteps = torch.tensor([t.plan.timesteps[t.row] for t in trajectories], dtype=torch.float32)
        rows = torch.from_numpy(np.array([t.plan.table[t.row] for t in trajectories], np.float32))
        out, gradient = self._predict(x, timesteps, trajectories), self._gradient(x, timesteps, rows, trajectories)
        self._count()
        stochastic = rows[:, Column.S].nonzero().flatten()
        generators = [trajectories[i].generator for i in stochastic.tolist()]
        states = [generator.get_state() for generator in generators]
        try:
            z = self._noise(x, generators, stochastic)
            kept_2, kept_3 = _kept(1, trajectories, rows[:, Column.D]), _kept(2, trajectories, rows[:, Column.H])
            kept_1 = torch.stack([t.kept[0] for t in trajectories])
            x_next, x0 = advance(x, kept_1, out, z, rows, gradient, kept_2, kept_3)
            keeps = remembered(x, x0, rows)
            other = None if keeps is x0 else keeps
            outcomes = [
                t.outcome(x_next[i], x0[i], z[i], None if other is None else other[i])
                for i, t in enumerate(trajectories)
            ]
        except Exception:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            raise
        for trajectory, outcome in zip(trajectories, outcomes, strict=True):
            trajectory.advance(*outcome)

    def _noise(self, x: Tensor, generators: Sequence[Source], indices: Tensor) -> Tensor:
        """Draws z for the images at some indices, each from a generator of its own; 0 for the others. Shape of x."""
        if not generators:
            return torch.zeros_like(x)
        drawn = upload(draw_noise(generators, self.checkpoint.config.shape), x.device)
        if len(generators) == len(x):
            return drawn
        return torch.zeros_like(x).index_copy(0, upload(indices, x.device), drawn)

    def _predict(self, x: Tensor, timesteps: Tensor, trajectories: Sequence[Trajectory]) -> Tensor:
        """Returns the network's outputs, guided where a row has a scale (`model.guidance`); a learned variance stays.

        Without a weaker network the base is the network's output with `base_inputs`, for which guided images occur
        twice in the same call.
        """
        indices = [i for i, t in enumerate(trajectories) if t.scale != 1.0]
        arguments = (x, timesteps, *self._arguments(trajectories))
        if not indices:
            return self._network(*arguments)
        again, guided = [trajectories[i] for i in indices], upload(torch.tensor(indices), x.device)
        repeated = (x[guided], timesteps[indices], *self._arguments(again, as_base=self._weaker is None))
        if self._weaker is not None:
            out, base = self._network(*arguments), self._weaker(*repeated)
        else:
            both = self._network(*map(torch.cat, zip(arguments, repeated, strict=True)))
            out, base = both[: len(x)], both[len(x) :]
        channels = x.shape[1]
        scale = upload(torch.tensor([each.scale for each in again]), x.device).view(-1, 1, 1, 1)
        out[guided, :channels] = guided_output(out[guided, :channels], base[:, :channels], scale)
        return out

    def _arguments(self, trajectories: Sequence[Trajectory], *, as_base: bool = False) -> list[Tensor]:
        """Returns the arguments of the network, or of the base of guidance, except x_t and t."""
        inputs = [t.base_inputs if as_base else t.inputs for t in trajectories]
        return [torch.stack([each[name] for each in inputs]) for name in self._input_names]

    def _gradient(
        self, x: Tensor, timesteps: Tensor, rows: Tensor, trajectories: Sequence[Trajectory]
    ) -> Tensor | None:
        """Returns the classifier's gradient where a row has G, 0 elsewhere, shape of x; None if no row has G."""
        indices = rows[:, Column.G].nonzero().flatten()
        if not len(indices):
            return None
        labels = torch.stack([trajectories[i].inputs["labels"] for i in indices.tolist()])
        assert self._classifier is not None
        guided = upload(indices, x.device)
        wanted = self._classifier(x[guided], timesteps[indices], labels)
        return torch.zeros_like(x).index_copy(0, guided, wanted)

    def _count(self) -> None:
        """Counts the calls that are over."""
        for rows, bucket, seconds in self._timer.over:
            if rows == self.buckets[-1]:
                mean = 1 / self.rate  # of times: a mean of rates would be more than the calls make together
                self.rate = 1 / (mean + 0.05 * (min(seconds / rows, SLOWEST_CALL * mean) - mean))
            self.on_step(rows, bucket, seconds)
        self._timer.over.clear()


def _kept(index: int, trajectories: Sequence[Trajectory], weights: Tensor) -> Tensor | None:
    """Returns what trajectories kept so many rows before the last, shape (B, C, H, W); None if nothing of it weighs."""
    return torch.stack([t.kept[index] for t in trajectories]) if weights.any() else None


def _example(checkpoint: Checkpoint, size: int, device: torch.device) -> list[Tensor]:
    x, timesteps, inputs = example_batch(checkpoint.config, size)
    return [each.to(device) for each in (x, timesteps, *inputs.values())]


def _gradient_of(classifier: Classifier, device: torch.device, precision: Precision) -> Network:
    """Returns the gradient of log p(y | x_t), from (x_t, t, labels); see `log_prob_gradient`."""
    if precision == "bfloat16":
        prepare(classifier, device, precision)
    else:  # in the memory format of always, on which its bits depend
        classifier.to(device)

    def gradient(x: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        with computing(device, precision):
            return log_prob_gradient(classifier, x, timesteps, labels)

    return gradient
