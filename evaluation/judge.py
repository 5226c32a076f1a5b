"""How often an image shows what it was asked to show, by a judge: a small network that says what each image shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from difuso.model.conditions import Choice, Condition, Conditions, Number
from difuso.model.images import from_levels
from difuso.training.data.conditions import Columns, some_of
from difuso.training.data.images import ImageArray

from .errors import EvaluationError

STEPS, BATCH = 1500, 64  # of its training
LEARNING_RATE = 2e-3
WIDTHS = (32, 64, 128, 256)  # each layer halves the resolution
NEAR = 0.1  # of a number's range: what is nearer counts as right
PLACES = 4  # height and width of the last map, which keeps where things are

Answers = Mapping[str, NDArray[np.float64]]
"""What is shown by each image, by the name of the condition, shape (N,): the index of a choice's value, or a number."""


class Judge(nn.Module):
    """A trunk of convolutions, with an output for each condition that it judges: a choice or a number."""

    def __init__(self, conditions: Conditions, channels: int) -> None:
        super().__init__()
        self.conditions = conditions
        layers: list[nn.Module] = []
        for before, width in zip((channels, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(PLACES), nn.Flatten())
        size = WIDTHS[-1] * PLACES**2
        self.heads = nn.ModuleDict({name: nn.Linear(size, _outputs(one)) for name, one in conditions.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns logits, (B, values), or numbers in -1..1, (B, 1), by name, of images in [-1, 1], (B, C, H, W)."""
        seen = self.trunk(images)
        return {name: head(seen) for name, head in self.heads.items()}

    @torch.inference_mode()
    def answers(self, images: ImageArray) -> Answers:
        """Returns what uint8 images of shape (N, H, W, C) show."""
        self.eval()
        starts = range(0, len(images), 250)
        parts = [self(from_levels(torch.from_numpy(images[first : first + 250].copy()))) for first in starts]
        outputs = {name: torch.cat([part[name] for part in parts]) for name in self.conditions}
        return {name: _answer(one, outputs[name]).double().numpy() for name, one in self.conditions.items()}


def judged(conditions: Conditions) -> dict[str, Condition]:
    """Returns the conditions that a judge can see: choices and numbers."""
    return {name: one for name, one in conditions.items() if isinstance(one, Choice | Number)}


def train_judge(
    images: ImageArray, columns: Columns, conditions: Conditions, report: Callable[[float], None] = lambda share: None
) -> Judge:
    """Trains a judge on real images, the same in each run: 96,000 views of them, by Adam with one cycle of its rate.

    The images are uint8, shape (N, H, W, C). One does not count for a condition that it lacks. The conditions to judge
    are choices and numbers. `report` is called with the share that is done.

    Raises EvaluationError if there are fewer images than a batch.
    """
    if len(images) < BATCH:
        raise EvaluationError(f"{len(images)} images are too few to train a judge: give at least {BATCH}")
    generator = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = Judge(conditions, images.shape[-1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(judge.parameters(), lr=LEARNING_RATE)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    for step in range(STEPS):
        rows = np.sort(generator.integers(len(images), size=BATCH))
        outputs = judge(from_levels(torch.from_numpy(images[rows])).contiguous(memory_format=torch.channels_last))
        asked = some_of(columns, rows)
        losses = [
            (_loss(one, outputs[name], asked[name].values) * asked[name].present).mean()
            for name, one in conditions.items()
        ]
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(losses).sum())
        optimizer.step()
        rates.step()
        report((step + 1) / STEPS)
    return judge


def _outputs(condition: Condition) -> int:
    return len(condition.values) if isinstance(condition, Choice) else 1


def _loss(condition: Condition, output: Tensor, values: Tensor) -> Tensor:
    """Returns the loss of each image, shape (B,)."""
    if isinstance(condition, Choice):
        return F.cross_entropy(output, values, reduction="none")
    assert isinstance(condition, Number)
    off: Tensor = output[:, 0] - condition.scaled(values)
    return off.square()


def _answer(condition: Condition, output: Tensor) -> Tensor:
    if isinstance(condition, Choice):
        return output.argmax(dim=1)
    assert isinstance(condition, Number)
    return condition.low + (output[:, 0] + 1) / 2 * (condition.high - condition.low)


@dataclass(frozen=True)
class Share:
    """The share of images that show what was asked for."""

    value: float  # for a choice the mean over its values, so that rare ones count as much as frequent ones
    error: float  # its standard error; k right of n count in it as (k + 1) / (n + 2), so that it is never 0
    images: int  # the number of images

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f} %"


def complete_rows(columns: Columns) -> NDArray[np.int64]:
    """Returns the rows of the images that have all of some conditions; raises EvaluationError if there are none."""
    present = [column.present.numpy() for column in columns.values()]
    rows = np.flatnonzero(np.all(present, axis=0))
    if not present or not len(rows):
        raise EvaluationError("no held-out image has all conditions: name a recipe whose images do")
    return rows


def choose_rows(conditions: Conditions, columns: Columns, count: int) -> NDArray[np.int64]:
    """Chooses real images, some repeatedly, whose conditions are asked for: each value of a choice about equally often.

    The other conditions of an image come with it, so no combination is asked for that the real images do not have.
    Raises EvaluationError if no image has all conditions.
    """
    complete = complete_rows(columns)
    generator, turns = np.random.default_rng(0), []
    for name, condition in conditions.items():
        values = columns[name].values.numpy()[complete]
        kinds = range(len(condition.values)) if isinstance(condition, Choice) else []
        turns += [rows for value in kinds if len(rows := complete[values == value])] or [complete]
    return np.array([generator.choice(rows) for rows in islice(cycle(turns), count)], dtype=np.int64)


def is_there(condition: Condition, asked: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns whether the asked value, the index of a choice's or a number, is found in each image, shape (N,)."""
    near = NEAR * (condition.high - condition.low) if isinstance(condition, Number) else 0
    return np.abs(found - asked) <= near


def share_there(condition: Condition, asked: NDArray[np.float64], there: NDArray[np.bool_]) -> Share:
    """Returns how often the asked value is there, see `is_there`; raises EvaluationError without an image."""
    if not len(asked):
        raise EvaluationError("the judge finds nothing of a condition in the real images: more of them may teach it")
    if isinstance(condition, Number):
        return _mean([there])
    return _mean([there[asked == value] for value in np.unique(asked)])


def _mean(parts: Sequence[NDArray[np.bool_]]) -> Share:
    """Returns the mean of the shares of several parts."""
    right, counts = np.array([part.sum() for part in parts]), np.array([len(part) for part in parts])
    likely = (right + 1) / (counts + 2)
    error = np.sqrt((likely * (1 - likely) / counts).sum()) / len(parts)
    return Share(float((right / counts).mean()), float(error), int(counts.sum()))
