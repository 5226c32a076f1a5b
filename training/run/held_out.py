"""The accuracy of a noisy classifier on images that it was not trained on."""

import torch
from torch import nn

from model.images import from_levels
from model.plans.schedule import NoiseSchedule

from ..data.dataset import Dataset
from ..objective.cross_entropy import CrossEntropy
from .window import Ranges, means_by_range

BATCH = 250


@torch.inference_mode()
def recognition(
    classifier: nn.Module, schedule: NoiseSchedule, images: Dataset, ranges: Ranges, *, device: torch.device
) -> dict[str, float]:
    """Measures the accuracy and the loss of a classifier, over all images and by ranges of the timesteps.

    Each image is shown once. The timesteps of all images are spread evenly over 0..T-1, and they and the noise are the
    same in every measurement.

    Args:
        classifier: from (x_t, t) to logits; in eval mode.
        schedule: the schedule of the noise.
        images: images with labels.
        ranges: see `training.run.window.timestep_ranges`.
        device: the device of the classifier.

    Returns:
        `accuracy`, `loss` and, for each range, `accuracy/range`.
    """
    assert images.labels is not None
    generator = torch.Generator().manual_seed(0)
    count, objective = len(images.images), CrossEntropy(schedule)
    t = torch.randperm(count, generator=generator) * schedule.num_train_timesteps // count
    losses, correct = [], []
    for first in range(0, count, BATCH):
        rows = slice(first, first + BATCH)
        x0 = from_levels(torch.from_numpy(images.images[rows].copy()))
        noise = torch.randn(x0.shape, generator=generator).to(device)
        labels = torch.from_numpy(images.labels[rows]).to(device)
        found = objective(lambda x_t, at: classifier(x_t, at.to(device)), x0.to(device), t[rows], noise, labels)
        losses.append(found.loss.cpu())
        correct.append(found.correct.cpu())
    right = torch.cat(correct)
    means = {"accuracy": float(right.mean()), "loss": float(torch.cat(losses).mean())}
    return means | means_by_range("accuracy", right, t, ranges)
