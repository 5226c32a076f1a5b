"""Initial weights from a checkpoint, as far as they fit (fine-tuning)."""

import logging
from pathlib import Path

from torch import nn

from difuso.model.checkpoint import load_checkpoint
from difuso.model.folders.files import CLASSIFIER, file_sha256
from difuso.model.formats.folders import read_config, weights_of
from difuso.model.networks.classifier import Classifier

from ..data.batches import Seeds
from ..errors import RecipeError, checkpoint_errors
from ..objective.distillation import check_teacher
from ..recipe import Recipe

log = logging.getLogger(__name__)


def check_initial(recipe: Recipe) -> None:
    """Raises RecipeError if a recipe's checkpoint cannot begin its run, before minutes are spent on images."""
    if recipe.init:
        with checkpoint_errors("init", recipe.init):
            config = read_config(Path(recipe.init))
        if recipe.loss == "distillation":
            check_teacher(recipe, config)


def seeds_of(recipe: Recipe) -> Seeds:
    """Returns the seeds of a run that begins; raises RecipeError if it begins from what is not a checkpoint."""
    if not recipe.init:
        return Seeds(recipe.seed)
    folder = Path(recipe.init)
    with checkpoint_errors("init", recipe.init):
        of_classifier = recipe.trains_classifier and read_config(folder).classifier is not None
        return Seeds(recipe.seed, file_sha256(folder / (CLASSIFIER if of_classifier else weights_of(folder))))


def take_over(network: nn.Module, recipe: Recipe) -> None:
    """Copies the tensors of a recipe's checkpoint to those of the same name and shape; the others do not change.

    A classifier takes those of the checkpoint's classifier.

    Raises RecipeError if the folder is not a checkpoint, it has no classifier for one, or none of its tensors fits.
    """
    with checkpoint_errors("init", recipe.init):
        checkpoint = load_checkpoint(recipe.init, networks=recipe.own_modules)
    if checkpoint.config.preconditioning is not None:
        raise RecipeError(
            f"init = {recipe.init!r}: its network was trained on noise levels with a preconditioning, but "
            "difuso trains on timesteps: begin from another checkpoint"
        )
    source = checkpoint.classifier if isinstance(network, Classifier) else checkpoint.network
    if source is None:
        raise RecipeError(f"init = {recipe.init!r}: this model has no classifier to begin from")
    given, wanted = source.state_dict(), network.state_dict()
    fitting = {name: given[name] for name in wanted if name in given and given[name].shape == wanted[name].shape}
    if not fitting:
        raise RecipeError(f"init = {recipe.init!r}: none of its tensors fits this network")
    network.load_state_dict(fitting, strict=False)
    fresh = [name for name in wanted if name not in fitting]
    example = f", such as {fresh[0]}" if fresh else ""
    log.info("took %d tensors from %s; %d keep random numbers%s", len(fitting), recipe.init, len(fresh), example)
