"""`difuso convert`: turns a checkpoint of another project into a folder that difuso serves, or one for diffusers."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import typer
from torch import nn

from model import Checkpoint, ModelConfig, load_checkpoint, save_checkpoint
from model.folders.config import Precision
from model.folders.config_json import config_from_json, config_to_json
from model.folders.folder import file_sha256, read_safetensors
from model.formats import dome, edm, edm2, guided, jit, lucid, pesser, score_sde
from model.formats.diffusers.config import WEIGHTS, is_diffusers, read_diffusers_config
from model.formats.diffusers.pipeline import write_diffusers
from model.formats.diffusers.weights import weights_from_diffusers
from model.formats.facts import (
    ClassifierFacts,
    DomeFacts,
    Facts,
    GuidedFacts,
    HoFacts,
    JiTFacts,
    LucidFacts,
    schedule_of,
)
from model.formats.layouts import Layout, layout_of
from model.formats.pickles import read_content, read_pickle
from model.formats.sigma_facts import EDMFacts, ScoreSDEFacts
from model.guidance import UNGUIDED, Guidance
from model.networks.build import build_network
from model.networks.configs import UNetConfig

from ..errors import UserError, user_errors
from .checkpoint_facts import find_facts
from .new_models import check_name, name_from, print_summary
from .own_networks import is_config, read_network

PICKLED = "diffusion_pytorch_model.bin"
READERS: dict[Layout, tuple[Callable[..., tuple[ModelConfig, nn.Module]], type[Facts]]] = {
    "guided": (guided.read_unet, GuidedFacts),
    "ho": (pesser.read_unet, HoFacts),
    "dome": (dome.read_unet, DomeFacts),
    "lucid": (lucid.read_unet, LucidFacts),
    "edm": (edm.read_unet, EDMFacts),
    "edm2": (edm2.read_unet, EDMFacts),
    "score_sde": (score_sde.read_unet, ScoreSDEFacts),
    "jit": (jit.read_unet, JiTFacts),
}


def convert(
    source: Path,
    out: Path,
    *,
    facts: str | None = None,
    classifier: Path | None = None,
    classifier_facts: str | None = None,
    weaker: Path | None = None,
    guidance: Guidance = UNGUIDED,
    to: Literal["difuso", "diffusers"] = "difuso",
    half: bool = False,
    precision: Precision | None = None,
    measure: Callable[[Checkpoint], Iterable[str]] = lambda checkpoint: (),
    networks: Collection[str] = (),
) -> None:
    """Converts a checkpoint, loads the new folder once to prove that it can be served, and prints a summary.

    Args:
        source: a file of weights (.pt, .pth, .bin, .ckpt or .safetensors), or a folder of diffusers or difuso.
        out: the folder; must not exist yet.
        facts: a file, or the name of a released checkpoint; see `find_facts`. A whole config.json names the network.
        classifier: a file of weights of one of ADM's noisy classifiers, to become part of the model.
        classifier_facts: facts about the classifier, in the form of `facts`.
        weaker: a folder of a weaker version of the model, whose network becomes part of the model.
        guidance: the guidance by the weaker network for requests that name none.
        to: format of the folder.
        half: whether to save float16. Otherwise the numbers, and so the network's outputs, do not change.
        precision: the number format in which workers are to compute it; None for that of the model.
        measure: yields lines about the model, which are printed before anything is written.
        networks: the modules of other packages whose networks may be imported.

    Raises UserError if the model cannot be read, or cannot be written as asked.
    """
    if out.exists():
        raise UserError(f"{out} exists already: delete it, or name another folder with --out")
    if to == "difuso":
        check_name(out.name)
    for option, other in (("classifier", classifier), ("weaker", weaker)):
        if to == "diffusers" and other is not None:
            raise UserError(f"a diffusers folder has no place for a second network: leave out --{option}")
    if weaker is None and guidance != UNGUIDED:
        raise UserError("--guidance-scale needs a weaker network: name its folder with --weaker")
    if to == "diffusers" and precision is not None:
        raise UserError("a diffusers folder has no place for a number format: leave out --precision")
    if source.is_dir() and facts is not None:
        raise UserError(f"{source} is a folder, which needs no facts: leave out --facts")
    with user_errors(source.name):
        checkpoint = _read_folder(source, networks) if source.is_dir() else _read_file(source, facts, networks)
    if classifier is not None:
        with user_errors(classifier.name):
            checkpoint = _add_classifier(checkpoint, classifier, classifier_facts)
    if weaker is not None:
        with user_errors(weaker.name):
            checkpoint = _add_weaker(checkpoint, load_checkpoint(weaker, networks=networks), guidance)
    with user_errors(source.name):
        for line in measure(checkpoint):
            typer.echo(line)
        checkpoint = checkpoint.in_precision(precision or "model")
        if to == "diffusers":
            write_diffusers(out, checkpoint.config, checkpoint.network)
        else:
            halves = half or all(p.dtype == torch.float16 for p in checkpoint.network.parameters())
            dtype = torch.float16 if halves else torch.float32
            save_checkpoint(
                out,
                checkpoint.config,
                checkpoint.network,
                classifier=checkpoint.classifier,
                weaker=checkpoint.weaker,
                dtype=dtype,
            )
        del checkpoint  # frees gigabytes before the folder is loaded
        print_summary(out, load_checkpoint(out, networks=networks))


def model_name(source: Path) -> str:
    """Makes a model's name from the name of a file or folder."""
    return name_from(source.name if source.is_dir() else source.stem)


def _read_folder(folder: Path, networks: Collection[str]) -> Checkpoint:
    """Reads a folder of difuso or diffusers; old folders of diffusers have their weights in a pickle."""
    if not is_diffusers(folder):
        return load_checkpoint(folder, networks=networks)
    part = folder / "unet" if (folder / "unet").is_dir() else folder
    pickled = part / PICKLED
    if (part / WEIGHTS).is_file() or not pickled.is_file():
        return load_checkpoint(folder)
    config = read_diffusers_config(folder)
    assert isinstance(config.network, UNetConfig)
    with torch.device("meta"):
        network = build_network(config.network)
    network.load_state_dict(weights_from_diffusers(config.network, read_pickle(pickled)), assign=True)
    return _checkpoint(pickled, config, network)


def _read_file(path: Path, facts: str | None, networks: Collection[str]) -> Checkpoint:
    if facts is not None and is_config(facts):
        return _checkpoint(path, *read_network(_read_weights(path, read_content), Path(facts), networks))
    weights = _read_weights(path)
    layout = layout_of(weights)
    if layout == "guided_classifier":
        raise UserError(f"{path.name} is a noisy classifier: convert a model, and give this file as --classifier")
    read_unet, kind = READERS[layout]
    config, network = read_unet(weights, find_facts(kind, path, facts))
    config_from_json(config_to_json(config))  # refuses what could not be served, before anything is written
    return _checkpoint(path, config, network)


def _read_weights(path: Path, read: Callable[[Path], Any] = read_pickle) -> Any:
    if not path.is_file():
        raise UserError(f"there is no file or folder {path}")
    return read_safetensors(path.parent, path.name) if path.suffix == ".safetensors" else read(path)


def _checkpoint(path: Path, config: ModelConfig, network: nn.Module) -> Checkpoint:
    sha256 = file_sha256(path)
    config = replace(config, training={"converted_from": path.name, "sha256": sha256})
    return Checkpoint(path.stem, config, network, config.schedule.build(), sha256)


def _add_classifier(checkpoint: Checkpoint, path: Path, facts: str | None) -> Checkpoint:
    """Returns the model with a classifier, which must have the same images, timesteps and classes."""
    weights = _read_weights(path)
    if layout_of(weights) != "guided_classifier":
        raise UserError(f"{path.name} is not a noisy classifier of guided-diffusion")
    found = find_facts(ClassifierFacts, path, facts)
    classifier = guided.read_classifier(weights, found)
    config = checkpoint.config
    theirs = {
        "image size": (classifier.config.image_size, config.image_size),
        "channels": (classifier.config.in_channels, config.channels),
        "timesteps": (found.diffusion_steps, config.schedule.num_train_timesteps),
    }
    if config.classes is not None:
        theirs["classes"] = (classifier.config.num_classes, len(config.classes))
    for what, (its, models) in theirs.items():
        if its != models:
            raise UserError(f"{path.name} does not fit the model: {what} {its} instead of {models}")
    schedule = schedule_of(found.noise_schedule, found.diffusion_steps).build()
    if not np.allclose(schedule.betas, checkpoint.schedule.betas, rtol=1e-9):
        raise UserError(f"{path.name} does not fit the model: it was trained on another noise schedule")
    return replace(checkpoint, config=replace(config, classifier=classifier.config), classifier=classifier)


def _add_weaker(checkpoint: Checkpoint, weaker: Checkpoint, guidance: Guidance) -> Checkpoint:
    """Returns the model with a weaker network, which must predict the same quantity from the same noisy images."""
    config, theirs = checkpoint.config, weaker.config
    for what in ("shape", "prediction", "preconditioning"):
        its, models = getattr(theirs, what), getattr(config, what)
        if its != models:
            raise UserError(f"{weaker.name} does not fit the model: {what} {its} instead of {models}")
    steps, wanted = weaker.schedule.num_train_timesteps, checkpoint.schedule.num_train_timesteps
    if steps != wanted or not np.allclose(weaker.schedule.betas, checkpoint.schedule.betas, rtol=1e-9):
        raise UserError(f"{weaker.name} does not fit the model: it was trained on another noise schedule")
    config = replace(
        config,
        weaker=theirs.network,
        defaults=replace(config.defaults, **guidance.settings),
        training={**config.training, "weaker": theirs.training},
    )
    config_from_json(config_to_json(config))  # refuses what could not be served, before anything is written
    return replace(checkpoint, config=config, weaker=weaker.network)
