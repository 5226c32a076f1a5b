"""The model that a run makes of its network, and the samples or figures that it shows on the way."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from difuso.model.conditions import Example, ImageMap
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.config_json import config_to_json, config_to_text
from difuso.model.folders.files import MAX_FILE
from difuso.model.images import from_levels, to_uint8
from difuso.model.network_inputs import Column, enlarge, inputs_of_columns
from difuso.model.networks.classifier import Classifier
from difuso.model.networks.configs import ForeignConfig
from difuso.model.networks.preconditioned import denoiser_of
from difuso.model.sampling import sample

from ..data.batches import prepared
from ..data.conditions import examples_of, never_together, some_of, values_at, words
from ..data.dataset import Dataset
from ..data.images import ImageArray
from ..errors import RecipeError, checkpoint_errors
from ..recipe import Recipe
from .copies import find_nearest
from .held_out import loss_on, recognition
from .journal import COPIES, Journal
from .optimizers import Ema
from .progress import timestep_ranges
from .trainer import Trainer

log = logging.getLogger(__name__)

SHEET_SEEDS = range(64)
DROPPED_SEEDS = range(56, 64)  # the last row of a sheet
IMAGE_SHEET_SEEDS = range(16)  # of networks that see images
KID_BATCHES = [range(first, first + 64) for first in range(0, 256, 64)]  # seeds of the images that KID is of

Documents = Mapping[str, Path]  # files about a model, by their names in its folder
Distance = Callable[[ImageArray], float]  # of drawn images, uint8, shape (N, H, W, C), from others


class ImageModel:
    """A network that makes images, as a model of its own.

    Args:
        distance: the KID to the training images.
        held_out: images to measure the loss on.

    Raises RecipeError if the model is to carry examples of conditions, and the images have none, or too long ones.
    """

    def __init__(self, trainer: Trainer, distance: Distance | None = None, *, held_out: Dataset | None = None) -> None:
        self._trainer = trainer
        self._distance = distance
        self._held_out = held_out
        self._measured_at = -1  # the step of the last loss on the held-out images
        recipe, columns = trainer.recipe, trainer.batches.dataset.columns
        self._never = never_together(recipe.conditions, columns)
        self._examples: dict[str, tuple[Example, ...]] = {}  # of conditions, which the model carries
        if recipe.examples:
            if trainer.batches.dataset.paired:  # the first pairs have their teacher's examples, and others repeat them
                columns = some_of(columns, slice(recipe.examples))
            self._examples = examples_of(recipe.conditions, columns, recipe.examples)
            _check_length(self._config({}))

    def save(self, folder: Path, average: Ema, facts: dict[str, Any], documents: Documents) -> None:
        """Writes the checkpoint with the network of an average; `facts` say how far its training is."""
        config = self._config(facts)
        # A network of another package may hold numbers that float16 cannot.
        dtype = torch.float32 if isinstance(config.network, ForeignConfig) else torch.float16
        save_checkpoint(folder, config, average.network, dtype=dtype, documents=documents)

    def show(self, step: int, journal: Journal) -> None:
        """Enters a sheet of images, with the conditions of each."""
        recipe = self._trainer.recipe
        seeds = IMAGE_SHEET_SEEDS if recipe.seen else SHEET_SEEDS
        columns = self._columns(seeds)
        values = [values_at(recipe.conditions, columns, row) for row in range(len(seeds))]
        has_files = any(condition.is_file for condition in recipe.all_conditions.values())
        samples = [
            {
                "seed": seed,
                **({"label": seed % recipe.num_classes} if recipe.num_classes else {}),
                **({"conditions": each} if each else {}),
            }
            for seed, each in zip(seeds, values, strict=True)
        ]
        drawn = self.sheet()
        journal.sheet(step, drawn, list(map(words, values)), () if has_files else samples, shown=recipe.shown)
        if recipe.nearest:
            self._compare(step, drawn.cpu(), journal)

    def _compare(self, step: int, samples: Tensor, journal: Journal) -> None:
        """Enters the training images nearest to samples, and the share of these that are copies."""
        recipe, images = self._trainer.recipe, self._trainer.batches.dataset
        others = None if self._held_out is None else self._held_out.images
        found = find_nearest(samples, images, recipe.data, others)
        nearest = from_levels(torch.from_numpy(images.images[found.nearest]))
        journal.nearest(step, samples, nearest, shown=recipe.shown)
        if found.copies is not None:
            journal.write(step, {COPIES: found.copies})

    def measure_held_out(self, step: int, journal: Journal) -> None:
        """Enters the loss on the held-out images, if there are any, once for a step."""
        if self._held_out is not None and self._measured_at != step:
            journal.write(step, {"held_out/loss": loss_on(self._held_out, self._trainer)})
            self._measured_at = step

    def measure(self, step: int, journal: Journal) -> None:
        """Enters the KID of images."""
        if self._distance is not None:
            drawn = torch.cat([self.samples(seeds) for seeds in KID_BATCHES])
            journal.write(step, {"kid": self._distance(to_uint8(drawn.cpu()).numpy())})

    def samples(self, seeds: Sequence[int] = SHEET_SEEDS) -> Tensor:
        """Images of the served average, with the recipe's default sampler; all classes and shown conditions in turn."""
        trainer, config = self._trainer, self._config({})
        network, device = denoiser_of(trainer.ema.network, None, trainer.schedule), trainer.device
        classes = trainer.recipe.num_classes
        inputs = inputs_of_columns(trainer.recipe.all_conditions, self._columns(seeds), config.shape[1:])
        if classes:
            inputs["labels"] = torch.tensor([seed % classes for seed in seeds], device=device)

        def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
            return network(x_t, t, **inputs)

        return sample(config.plan(trainer.schedule), denoiser, shape=config.shape, seeds=seeds, device=device)

    def sheet(self) -> Tensor:
        """Images to look at, shape (N, C, H, W): those of `samples`.

        Those of a network that sees images stand in a row, shape (N, C, H, k W), between these and the original.
        """
        recipe = self._trainer.recipe
        if not recipe.seen:
            return self.samples()
        seeds = IMAGE_SHEET_SEEDS
        columns, images = self._columns(seeds), self._trainer.batches.dataset.images
        seen = [_as_image(recipe, name, columns[name].values.cpu()) for name in recipe.seen]
        originals = from_levels(torch.from_numpy(images[self._rows(seeds)]))
        return torch.cat([*seen, self.samples(seeds).cpu(), originals], dim=3)

    def _rows(self, seeds: Sequence[int]) -> NDArray[np.int64]:
        """Indices of the training images that lend their conditions, in turn."""
        shown = self._trainer.batches.dataset.shown
        return shown[np.array(seeds) % len(shown)]

    def _columns(self, seeds: Sequence[int]) -> dict[str, Column]:
        """Returns the conditions of samples, which those images lend; a few have none, if the network learns that."""
        trainer, recipe = self._trainer, self._trainer.recipe
        columns = prepared(recipe, some_of(trainer.batches.dataset.columns, self._rows(seeds)), trainer.device)
        if recipe.drop_all:
            without = torch.tensor([seed in DROPPED_SEEDS for seed in seeds], device=trainer.device)
            for name, condition in recipe.conditions.items():
                columns[name] = columns[name].without(without & condition.null)
        return columns

    def _config(self, facts: dict[str, Any]) -> ModelConfig:
        config = self._trainer.recipe.model_config(facts, self._trainer.batches.dataset.classes)
        return replace(config, examples=self._examples, never=self._never)


def _check_length(config: ModelConfig) -> None:
    """Raises RecipeError if the examples make a config too long to be read; its training will add some more."""
    size = len(config_to_text(config_to_json(config)))
    if size > MAX_FILE // 2:
        raise RecipeError(
            f"examples make a config.json of {size} bytes, and half of {MAX_FILE} is the most: keep fewer"
        )


class GuidedModel:
    """The model that a classifier guides, with the classifier, which is measured on held-out images if there are any.

    Raises RecipeError if the model cannot be loaded.
    """

    def __init__(self, trainer: Trainer, held_out: Dataset | None) -> None:
        self._trainer = trainer
        self._held_out = held_out
        with checkpoint_errors("guides", trainer.recipe.guides):
            self._guided = load_checkpoint(trainer.recipe.guides)

    def save(self, folder: Path, average: Ema, facts: dict[str, Any], documents: Documents) -> None:
        """Writes the guided model with the classifier. The numbers of its own network do not change."""
        guided, classifier = self._guided, average.network
        assert isinstance(classifier, Classifier)
        training = {**guided.config.training, "classifier": {"recipe": self._trainer.recipe.record, **facts}}
        config = replace(guided.config, classifier=classifier.config, training=training)
        # Those of a model that was saved in float16 are exact in it.
        exact = all(bool((p.half().float() == p).all()) for p in guided.network.state_dict().values())
        save_checkpoint(
            folder,
            config,
            guided.network,
            classifier=classifier,
            weaker=guided.weaker,
            dtype=torch.float16 if exact else torch.float32,
            documents=documents,
        )

    def show(self, step: int, journal: Journal) -> None:
        """Enters the accuracy on the held-out images."""
        if self._held_out is None:
            return
        trainer = self._trainer
        ranges = timestep_ranges(trainer.schedule.num_train_timesteps)
        network = trainer.ema.network
        found = recognition(network, trainer.schedule, self._held_out, ranges, device=trainer.device)
        journal.write(step, {f"held_out/{name}": value for name, value in found.items()})
        parts = ", ".join(f"{value:.3f} in {name.partition('/')[2]}" for name, value in found.items() if "/" in name)
        log.info("step %d  accuracy on held-out images %.3f: %s", step, found["accuracy"], parts)


Outcome = ImageModel | GuidedModel  # the model that a run makes


def _as_image(recipe: Recipe, name: str, values: Tensor) -> Tensor:
    """Returns images that a network sees, or maps as shades of grey, in the shape of the images that it draws."""
    condition, shape = recipe.all_conditions[name], recipe.shape
    if isinstance(condition, ImageMap):
        values = 2 * values[:, None].float() / (len(condition.values) - 1) - 1
    values = enlarge(values, (shape.height, shape.width))
    if values.shape[1] == shape.channels:
        return values
    return values.mean(1, keepdim=True).expand(-1, shape.channels, -1, -1)
