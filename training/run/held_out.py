"""What a network says of images that it was not trained on: a loss that rises when it only remembers the others."""

import torch
from torch import Tensor, nn

from difuso.model.images import from_levels
from difuso.model.network_inputs import inputs_of_columns
from difuso.model.networks.preconditioned import denoiser_of
from difuso.model.plans.schedule import NoiseSchedule

from ..calls import autocast
from ..data.batches import prepared
from ..data.conditions import some_of
from ..data.dataset import Dataset
from ..objective.losses import CrossEntropy
from ..objective.objectives import objective_of, timesteps_of
from .progress import Ranges, means_by_range
from .trainer import Trainer

BATCH = 250  # of held-out images


@torch.inference_mode()
def loss_on(images: Dataset, trainer: Trainer) -> float:
    """Measures the loss of the average that is served: the mean over the images, each with its class and conditions.

    Each image is shown once. Timesteps, as training draws them, and noise are the same in every measurement.
    """
    recipe, schedule, device = trainer.recipe, trainer.schedule, trainer.device
    generator, count = torch.Generator().manual_seed(0), len(images.images)
    network, objective = denoiser_of(trainer.ema.network, None, schedule), objective_of(recipe, schedule)
    t = timesteps_of(recipe, schedule)(count, generator)
    losses = []
    for first in range(0, count, BATCH):
        rows = slice(first, first + BATCH)
        x0 = from_levels(torch.from_numpy(images.images[rows].copy()))
        noise = torch.randn(x0.shape, generator=generator).to(device)
        columns = prepared(recipe, some_of(images.columns, rows), device)
        inputs = inputs_of_columns(recipe.all_conditions, columns, (recipe.shape.height, recipe.shape.width))
        if images.labels is not None:
            inputs["labels"] = torch.from_numpy(images.labels[rows]).to(device)

        def called(x_t: Tensor, at: Tensor, inputs: dict[str, Tensor] = inputs) -> Tensor:
            with autocast(trainer.precision, device):
                return network(x_t, at.to(device), **inputs).float()

        losses.append(objective(called, x0.to(device), t[rows], noise).loss.cpu())
    return float(torch.cat(losses).mean())


@torch.inference_mode()
def recognition(
    classifier: nn.Module, schedule: NoiseSchedule, images: Dataset, ranges: Ranges, *, device: torch.device
) -> dict[str, float]:
    """Measures a classifier on the device: `accuracy`, `loss` and, by ranges of the timesteps, `accuracy/range`.

    Each image is shown once. Timesteps, spread evenly over 0..T-1, and noise are the same in every measurement.
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
