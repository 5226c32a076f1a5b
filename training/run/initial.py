"""Initial weights from a checkpoint, as far as they fit (fine-tuning)."""

import logging
from collections.abc import Collection
from pathlib import Path

from torch import nn

from difuso.model.checkpoint import load_checkpoint
from difuso.model.errors import CheckpointError
from difuso.model.folders.files import CLASSIFIER, file_sha256
from difuso.model.formats.folders import read_config, weights_of
from difuso.model.networks.classifier import Classifier

from ..errors import RecipeError
from ..objective.distillation import check_teacher
from ..recipe import Recipe
from ..seeds import Seeds

log = logging.getLogger(__name__)


def check_initial(recipe: Recipe) -> None:
    """Checks the checkpoint that a recipe begins from, before minutes are spent on images.

    Raises RecipeError if the folder is not a checkpoint, or should teach the network and cannot.
    """
    if not recipe.init:
        return
    try:
        config = read_config(Path(recipe.init))
    except CheckpointError as error:
        raise RecipeError(f"init = {recipe.init!r}: {error}") from error
    if recipe.loss == "distillation":
        check_teacher(recipe, config)
    if seeds_of(recipe).repeats:
        log.warning(
            "init = %r was trained with what this recipe would draw: give another seed, or it sees the same images "
            "with the same noise again",
            recipe.init,
        )


def seeds_of(recipe: Recipe) -> Seeds:
    """Returns the seeds of a run that begins; raises RecipeError if it begins from what is not a checkpoint."""
    if not recipe.init:
        return Seeds(recipe.seed)
    folder = Path(recipe.init)
    try:
        config, weights = read_config(folder), weights_of(folder)
        training = config.training
        if recipe.trains_classifier and config.classifier is not None:  # trainings of it do not change the model
            training, weights = training.get("classifier", {}), CLASSIFIER
        return Seeds(recipe.seed, file_sha256(folder / weights), tuple(training.get("draws", ())))
    except CheckpointError as error:
        raise RecipeError(f"init = {recipe.init!r}: {error}") from error


def take_over(network: nn.Module, folder: Path, networks: Collection[str]) -> None:
    """Copies a checkpoint's tensors to those of a network with the same name and shape; the others do not change.

    A classifier takes those of the checkpoint's classifier. `networks` are the modules that may be imported for it.

    Raises RecipeError if the folder is not a checkpoint, it has no classifier for one, or none of its tensors fits.
    """
    try:
        checkpoint = load_checkpoint(folder, networks=networks)
    except CheckpointError as error:
        raise RecipeError(f"init = {str(folder)!r}: {error}") from error
    if checkpoint.config.preconditioning is not None:
        raise RecipeError(
            f"init = {str(folder)!r}: its network was trained on noise levels with a preconditioning, but "
            "difuso trains on timesteps: begin from another checkpoint"
        )
    source = checkpoint.classifier if isinstance(network, Classifier) else checkpoint.network
    if source is None:
        raise RecipeError(f"init = {str(folder)!r}: this model has no classifier to begin from")
    given = source.state_dict()
    wanted = network.state_dict()
    fitting = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
    if not fitting:
        raise RecipeError(f"init = {str(folder)!r}: none of its tensors fits this network")
    network.load_state_dict(fitting, strict=False)
    fresh = [name for name in wanted if name not in fitting]
    example = f", such as {fresh[0]}" if fresh else ""
    log.info("took %d tensors from %s; %d keep random numbers%s", len(fitting), folder, len(fresh), example)
