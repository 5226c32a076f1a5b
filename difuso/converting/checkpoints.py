"""The checkpoints of `difuso convert`: read from files and folders of any project, put together, and written."""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from difuso.model import Checkpoint, ModelConfig, load_checkpoint, save_checkpoint
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.folders.files import file_sha256, read_json
from difuso.model.folders.folder import read_safetensors
from difuso.model.folders.parsing import parse
from difuso.model.formats import edm, edm2, guided, jit, pesser, score_sde
from difuso.model.formats.diffusers.config import WEIGHTS, is_diffusers, read_diffusers_config
from difuso.model.formats.diffusers.pipeline import weights_from_diffusers, write_diffusers
from difuso.model.formats.facts import (
    RELEASED,
    ClassifierFacts,
    EDMFacts,
    Facts,
    GuidedFacts,
    HoFacts,
    JiTFacts,
    ScoreSDEFacts,
    schedule_of,
)
from difuso.model.formats.state_dicts import Layout, layout_of, read_content, read_pickle
from difuso.model.guidance import Guidance
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import UNetConfig
from difuso.model.plans.schedule import NoiseSchedule

from ..errors import UserError
from .own_networks import is_config, read_network

Kind = TypeVar("Kind", bound=Facts)

PICKLED = "diffusion_pytorch_model.bin"
READERS: dict[Layout, tuple[Callable[..., tuple[ModelConfig, nn.Module]], type[Facts]]] = {
    "guided": (guided.read_unet, GuidedFacts),
    "ho": (pesser.read_unet, HoFacts),
    "edm": (edm.read_unet, EDMFacts),
    "edm2": (edm2.read_unet, EDMFacts),
    "score_sde": (score_sde.read_unet, ScoreSDEFacts),
    "jit": (jit.read_unet, JiTFacts),
}

# The example for compulsory facts without a released checkpoint.
EXAMPLES: tuple[Facts, ...] = (EDMFacts("EDMPrecond", "SongUNet", 32, 3, 10, 128, (2, 2, 2), 4, (16,)),)
HEADS = ("num_heads", "num_head_channels")


def read(source: Path, facts: str | None, networks: Collection[str]) -> Checkpoint:
    """Reads a file of weights, or a folder of diffusers or difuso.

    Args:
        facts: a file, or the name of a released checkpoint; see `find_facts`. A whole config.json names the network.
        networks: the modules of other packages whose networks may be imported.

    Raises UserError or CheckpointError if the model cannot be read.
    """
    if not source.is_dir():
        return _read_file(source, facts, networks)
    if facts is not None:
        raise UserError(f"{source} is a folder, which needs no facts: leave out --facts")
    return _read_folder(source, networks)


def write(checkpoint: Checkpoint, out: Path, *, to: Literal["difuso", "diffusers"], half: bool) -> None:
    """Writes a folder; raises CheckpointError if the format has no such model.

    `half` saves float16. Otherwise the numbers, and so the network's outputs, do not change.
    """
    if to == "diffusers":
        write_diffusers(out, checkpoint.config, checkpoint.network)
        return
    halves = half or all(p.dtype == torch.float16 for p in checkpoint.network.parameters())
    save_checkpoint(
        out,
        checkpoint.config,
        checkpoint.network,
        classifier=checkpoint.classifier,
        weaker=checkpoint.weaker,
        dtype=torch.float16 if halves else torch.float32,
    )


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
    if facts is not None and is_config(Path(facts)):
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
    config = replace(config, training={"converted_from": path.name, "sha256": file_sha256(path)})
    return Checkpoint(path.stem, config, network, config.schedule.build(), version="")  # before it is saved


def find_facts(kind: type[Kind], source: Path, given: str | None) -> Kind:
    """Finds the facts of a checkpoint.

    Args:
        kind: the facts that its layout needs.
        source: the file of weights; facts that are not given are read from the file of this name with the suffix .json.
        given: a file of facts, or the name of a released checkpoint.

    Raises:
        UserError: if facts are missing, unknown or wrong; the message lists what is missing and shows an example.
        CheckpointError: if the file of facts is not a JSON object, or a number in it is out of range.
    """
    released = {name: facts for name, facts in RELEASED.items() if isinstance(facts, kind)}
    known = f"known of this layout are {', '.join(released) or 'none'}"
    if given in released:
        return released[given]
    if given in RELEASED:
        raise UserError(f"{given} is a checkpoint of another layout than {source.name}; {known}")
    path = source.with_suffix(".json") if given is None else Path(given)
    if given is not None and not path.is_file():
        raise UserError(f"{given} is neither a file of facts nor a released checkpoint; {known}")
    content = read_json(path.parent, path.name) if path.is_file() else {}
    required = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    needed: list[tuple[str, ...]] = [(name,) for name in required]
    if kind is GuidedFacts:
        needed.append(HEADS)
    if missing := [" or ".join(names) for names in needed if not content.keys() & names]:
        known_facts = (*released.values(), *EXAMPLES)
        facts = dataclasses.asdict(next(each for each in known_facts if isinstance(each, kind)))
        example = {name: facts[name] for names in needed for name in names if facts[name] is not None}
        raise UserError(
            f"the weights of {source.name} do not say {', '.join(missing)}: write it into {path}, for example "
            f"{json.dumps(example)}, or name a released checkpoint with --facts; {known}"
        )
    try:
        return parse(kind, content)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def with_classifier(checkpoint: Checkpoint, path: Path, facts: str | None) -> Checkpoint:
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
    schedule = schedule_of(found.noise_schedule, found.diffusion_steps).build()
    _check_fits(path.name, theirs, schedule, checkpoint.schedule)
    return replace(checkpoint, config=replace(config, classifier=classifier.config), classifier=classifier)


def with_weaker(checkpoint: Checkpoint, weaker: Checkpoint, guidance: Guidance) -> Checkpoint:
    """Returns the model with a weaker network, which must predict the same quantity from the same noisy images."""
    config, theirs = checkpoint.config, weaker.config
    facts = {
        what: (getattr(theirs, what), getattr(config, what)) for what in ("shape", "prediction", "preconditioning")
    }
    _check_fits(weaker.name, facts, weaker.schedule, checkpoint.schedule)
    config = replace(
        config,
        weaker=theirs.network,
        defaults=replace(config.defaults, **guidance.settings),
        training={**config.training, "weaker": theirs.training},
    )
    config_from_json(config_to_json(config))  # refuses what could not be served, before anything is written
    return replace(checkpoint, config=config, weaker=weaker.network)


def _check_fits(
    name: str, facts: Mapping[str, tuple[Any, Any]], schedule: NoiseSchedule, wanted: NoiseSchedule
) -> None:
    """Raises UserError unless each of two facts, and both schedules, are the same."""
    for what, (its, models) in facts.items():
        if its != models:
            raise UserError(f"{name} does not fit the model: {what} {its} instead of {models}")
    if len(schedule.betas) != len(wanted.betas) or not np.allclose(schedule.betas, wanted.betas, rtol=1e-9):
        raise UserError(f"{name} does not fit the model: it was trained on another noise schedule")
