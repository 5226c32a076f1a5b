"""A judge: a small convolutional network that says which value of each condition an image shows."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.conditions import Choice, Condition, Conditions, Number
from model.images import from_levels
from training.data.images import ImageArray
from training.data.told import Columns

from .errors import EvaluationError

STEPS, BATCH = 1500, 64  # of its training
LEARNING_RATE = 2e-3
WIDTHS = (32, 64, 128, 256)  # each layer halves the resolution
PLACES = 4  # height and width of the last map, which keeps where things are

Answers = Mapping[str, NDArray[np.float64]]
"""What is shown by each image, by the name of the condition, shape (N,): the index of a choice's value, or a number."""


class Judge(nn.Module):
    """A trunk of convolutions, with an output for each condition that is a choice or a number.

    Args:
        conditions: the conditions that it judges.
        channels: channels of the images.
    """

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
        """Returns the logits of a choice's values, shape (B, values), or a number from -1 to 1, shape (B, 1), by name.

        The images are in [-1, 1], shape (B, C, H, W).
        """
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
    images: ImageArray, columns: Columns, conditions: Conditions, tell: Callable[[float], None] = lambda share: None
) -> Judge:
    """Trains a judge on real images, the same in each run: 96,000 views of them, by Adam with one cycle of its rate.

    Args:
        images: uint8, shape (N, H, W, C).
        columns: what the images are told; an image does not count for a condition that it is not told.
        conditions: the conditions to judge, choices and numbers.
        tell: called with the share of the training that is done.

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
        losses = []
        for name, condition in conditions.items():
            values, told = columns[name].at(rows)
            losses.append((_loss(condition, outputs[name], values) * told).mean())
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(losses).sum())
        optimizer.step()
        rates.step()
        tell((step + 1) / STEPS)
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
