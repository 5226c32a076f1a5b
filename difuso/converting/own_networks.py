"""Reads weights of a network of the user's own package, which a whole config.json names in place of facts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from torch import Tensor, nn

from difuso.model.checkpoint import check_shapes
from difuso.model.conditions import listed
from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.config_json import config_from_json
from difuso.model.folders.files import read_json
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import check_networks, kind_of

from ..errors import UserError


def is_config(facts: Path) -> bool:
    """Returns whether the facts about a checkpoint are a file with a whole config, which names the network."""
    return facts.is_file() and "network" in read_json(facts.parent, facts.name)


def read_network(content: Any, file: Path, networks: Collection[str]) -> tuple[ModelConfig, nn.Module]:
    """Builds the network of a config and gives it its weights; prints where in the content they are.

    Args:
        content: a state dict, or containers that hold several: averaged weights are preferred.
        file: the config.json.
        networks: the modules of other packages whose networks may be imported.

    Raises:
        CheckpointError: if the config cannot be used, or no weights fit the network.
        UserError: if the config has other networks, which have options of their own.
    """
    try:
        config = config_from_json(read_json(file.parent, file.name))
    except CheckpointError as error:
        raise UserError(str(error).replace("config.json", str(file), 1)) from error
    if config.weaker is not None or config.classifier is not None:
        raise UserError(f"{file} may describe one network: leave out weaker and classifier, and add them with options")
    check_networks([config.network], networks)
    network = build_network(config.network)
    wanted = list(network.state_dict())
    found = sorted(_state_dicts(content), key=lambda each: not _is_average(each[0]))
    for place, weights in found:
        if (fitting := renamed(weights, wanted)) is not None:
            check_shapes(network, {name: tuple(tensor.shape) for name, tensor in fitting.items()}, "the file")
            network.load_state_dict(fitting)
            typer.echo(f"the weights are {place or 'all of the file'}")
            return config, network
    named = [name for _, weights in found for name in weights]
    has = f"has {listed(named, 3)}" if named else "holds no tensors by name"
    raise CheckpointError(f"{kind_of(config.network)} needs weights named {listed(wanted, 3)}, and the file {has}")


def renamed(weights: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor] | None:
    """Returns the weights by the names of a network if the two differ by a prefix only, else None.

    A class that wraps another as `self.net` has `net.` before all names. A trainer that holds the network as `model`
    has `model.`, and tensors of its own beside it.

    Examples:
        >>> renamed({"model.a.weight": 1, "model.b": 2, "betas": 3}, ["net.a.weight", "net.b"])
        {'net.a.weight': 1, 'net.b': 2}
    """
    parts = wanted[0].split(".")
    for depth in range(len(parts)):
        ours, first = "".join(f"{part}." for part in parts[:depth]), ".".join(parts[depth:])
        if not all(name.startswith(ours) for name in wanted):
            break
        theirs = (name.removesuffix(first) for name in weights if f".{name}".endswith(f".{first}"))
        for prefix in sorted(theirs, key=lambda prefix: not _is_average(prefix)):
            names = {name: prefix + name.removeprefix(ours) for name in wanted}
            if {name for name in weights if name.startswith(prefix)} == set(names.values()):
                return {name: weights[other] for name, other in names.items()}
    return None


def _state_dicts(content: Any, place: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yields each container that holds tensors by name, with its place in the content."""
    if isinstance(content, list | tuple):
        content = {str(index): each for index, each in enumerate(content)}
    if not isinstance(content, Mapping):
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in content.items():
        yield from _state_dicts(value, f"{place}.{name}".removeprefix("."))


def _is_average(place: str) -> bool:
    return "ema" in place.lower() or "average" in place.lower()
