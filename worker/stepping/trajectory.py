"""A trajectory: one image that follows a plan. Its state is enough to pause it, move it and resume it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from difuso.jobs.moments import film_size
from difuso.model.ddrm import Restoration
from difuso.model.memory import download, upload
from difuso.model.network_inputs import NetworkInputs
from difuso.model.noise import Source
from difuso.model.plans.plan import Plan

SNAPSHOT_FORMAT = 5  # another one with each change: a worker of another version then begins the job anew


class Moment(NamedTuple):
    """What is kept of a trajectory after a network call."""

    call: int  # from 1 on
    x0: Tensor  # the clean image that the call predicted; in the size of a film if there is no x
    x: Tensor | None = None  # x_t, if the call is traced


@dataclass(eq=False)
class Trajectory:
    """The state of one image."""

    plan: Plan  # the plan that the trajectory follows
    generator: Source  # of the noise of this image alone, on the CPU
    x: Tensor  # x_t, shape (C, H, W), float32. Replaced at each step, never changed in place.
    x0: Tensor  # the last predicted clean image, shape of x; after a snapshot what was kept last stands in for it
    kept: tuple[Tensor, ...]  # what its last three rows that keep something kept, the last one first; shape of x
    row: int = 0  # index of the next row of the plan; len(plan) when finished
    restoration: Restoration | None = None  # the measurement that the image has to agree with, if there is one
    ready: bool = True  # whether it can step; it cannot as long as other trajectories have to end first
    weight: int = 1  # the image-steps of the job that one of its network calls counts as
    # The inputs of the network, and those of the base of guidance without a weaker network: without dimension B.
    inputs: NetworkInputs = field(default_factory=dict)
    base_inputs: NetworkInputs = field(default_factory=dict)
    # the network calls after which a moment is kept, and whether the trace names each (`jobs.moments.kept_calls`)
    keeps: Mapping[int, bool] = field(default_factory=dict)
    # the moments after those of them that are done. Replaced when one is added, never changed in place. Snapshots hold
    # those of the trace only.
    moments: tuple[Moment, ...] = ()
    x_start: Tensor | None = None  # the x_t at which it began, once it has left it, if it is traced; shape of x

    @property
    def finished(self) -> bool:
        return self.row == len(self.plan)

    @property
    def scale(self) -> float:
        """Scale of guidance without a classifier in its next step; 1 is off, and any other needs a second call."""
        return self.plan.scales[self.row]

    @property
    def cost(self) -> int:
        """Number of slots that its next step takes in a batch: one for each network call that the step needs."""
        return self.plan.costs[self.row]

    @property
    def spent(self) -> int:
        """Number of network calls that its steps so far took."""
        return self.plan.spent[self.row]

    @property
    def left(self) -> int:
        """Number of network calls that its steps to come take."""
        return self.plan.spent[-1] - self.spent

    @property
    def is_traced(self) -> bool:
        return any(self.keeps.values())

    @property
    def traced(self) -> list[tuple[Tensor, Tensor]]:
        """x_t and x0 of each moment of the trace."""
        return [(moment.x, moment.x0) for moment in self.moments if moment.x is not None]

    def outcome(
        self, x: Tensor, x0: Tensor, z: Tensor, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...], tuple[Moment, ...]]:
        """Returns the outcome of its row: x' in agreement with its measurement, x0, what is kept, and the moments.

        Copied: a view of one image would keep its whole batch alive for as long as that image waits.

        Args:
            x, x0: the x' and x0 of the row, shape (C, H, W).
            z: the noise that the row drew, shape (C, H, W).
            kept: what the row keeps, if it keeps something, shape (C, H, W); None for x0.
        """
        if self.restoration is not None:
            x = self.restoration.agree(self.row, x, x0, z)
        x, x0, call = x.clone(), x0.clone(), self.row + 1
        memory = self.kept
        if self.plan.keeps[self.row]:
            memory = (x0 if kept is None else kept.clone(), *self.kept[:2])
        if (is_traced := self.keeps.get(call)) is None:
            return x, x0, memory, self.moments
        return x, x0, memory, (*self.moments, Moment(call, x0, x) if is_traced else Moment(call, in_film_size(x0)))

    def advance(self, x: Tensor, x0: Tensor, kept: tuple[Tensor, ...], moments: tuple[Moment, ...]) -> None:
        """Goes to the next row, with the outcome of this one. It cannot fail, because it makes no tensor."""
        if self.row == 0 and self.is_traced:
            self.x_start = self.x
        self.x, self.x0, self.kept, self.moments = x, x0, kept, moments
        self.row += 1


def in_film_size(x0: Tensor) -> Tensor:
    """Returns an image of shape (C, H, W) in the size of a film: itself, or averages of its pixels."""
    size = film_size(*x0.shape[1:])
    return x0 if x0.shape[1:] == size else torch.nn.functional.adaptive_avg_pool2d(x0, size)


class Snapshot(NamedTuple):
    """The states of a job's trajectories at one moment between two steps."""

    rows: tuple[int, ...]
    # of each trajectory x and what its plan needs of what it kept, x_start if it has one, and x and x0 of each traced
    # moment: shape (C, H, W)
    tensors: tuple[list[Tensor], ...]
    generators: tuple[Tensor, ...]  # their states
    seconds: tuple[float, float]  # that the steps took so far, and of these the share of the job


def take_snapshot(trajectories: Sequence[Trajectory], *, seconds: tuple[float, float] = (0.0, 0.0)) -> Snapshot:
    """Takes a snapshot. It is cheap: only the generators' states are copied, because steps replace the tensors."""
    return Snapshot(
        tuple(t.row for t in trajectories),
        tuple(map(_tensors, trajectories)),
        tuple(t.generator.get_state() for t in trajectories),
        seconds,
    )


def _tensors(t: Trajectory) -> list[Tensor]:
    start = [] if t.x_start is None else [t.x_start]
    return [t.x, *t.kept[: t.plan.memory], *start, *(each for x, x0 in t.traced for each in (x, x0))]


def encode_snapshot(snapshot: Snapshot, run_sha256: str) -> bytes:
    """Returns the bytes for the result store: 100 to 200 kB for a 64x64 image, and 100 kB for each traced moment."""
    return save(
        {
            "run": torch.frombuffer(bytearray.fromhex(run_sha256), dtype=torch.uint8),
            "seconds": torch.tensor(snapshot.seconds, dtype=torch.float64),
            "rows": torch.tensor(snapshot.rows),
            "generators": torch.stack(snapshot.generators),
            **{str(index): torch.stack(download(each)) for index, each in enumerate(snapshot.tensors)},
        }
    )


def restore_snapshot(data: bytes, trajectories: Sequence[Trajectory], run_sha256: str) -> tuple[float, float] | None:
    """Restores trajectories from a snapshot, and returns its `seconds`.

    Returns None, and changes nothing, if it cannot be read or is of another run.
    """
    try:
        tensors = load(data)
    except SafetensorError:  # a snapshot that cannot be read only costs time
        return None
    if bytes(tensors["run"].tolist()).hex() != run_sha256:
        return None
    for index, trajectory in enumerate(trajectories):
        # Cloned, because a view into the file's bytes is not aligned.
        read = [upload(each.clone(), trajectory.x.device) for each in tensors[str(index)]]
        memory = trajectory.plan.memory
        trajectory.x, *kept = read[: 1 + memory]
        trajectory.x0, rest = kept[0], read[1 + memory :]
        trajectory.kept = (*kept, *kept[-1:] * (3 - memory))
        trajectory.generator.set_state(tensors["generators"][index].clone())
        trajectory.row = int(tensors["rows"][index])
        has_start = trajectory.row > 0 and trajectory.is_traced
        trajectory.x_start, traced = (rest[0], rest[1:]) if has_start else (None, rest)
        trajectory.ready = trajectory.ready or trajectory.row > 0
        calls = sorted(call for call, is_traced in trajectory.keeps.items() if is_traced)
        trajectory.moments = tuple(map(Moment, calls, traced[1::2], traced[::2]))
    seconds, share = tensors["seconds"].tolist()
    return seconds, share
