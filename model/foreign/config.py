"""The config of a network of another package. It needs no torch, because front ends read it too."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from ..networks.network_config import MAX_PLANES, MAX_VECTOR, Classes, NetworkConfig
from .names import check_allowed, check_name

MAX_ARGS = 65_536  # characters of JSON


@dataclass(frozen=True, kw_only=True)
class ForeignConfig(NetworkConfig):
    """The config of a network of another package, and all that is known of it without its code.

    Where a `config.json` leaves out the last three attributes, they follow from its `classes` and `conditions`.

    Raises ValueError if the name is impossible, or the arguments are not values of JSON.

    Examples:
        >>> ForeignConfig(type="mylab.nets:Denoiser", args={"width": 64}, size_multiple=8).in_channels
        3
    """

    type: str = ""  # the name of its class, such as `mylab.nets:Denoiser`
    # the arguments by name that make a network of it; values of JSON, whose lists it gets as tuples
    args: Mapping[str, Any] = field(default_factory=dict)
    size_multiple: Annotated[int, Field(ge=1, le=1024)] = 1  # height and width of an image must be multiples of this
    null_class: bool = True  # whether it can be called with the label num_classes, for "no class"
    num_classes: Classes | None = None  # number of classes; None for a network without
    vector_size: Annotated[int, Field(ge=0, le=MAX_VECTOR)] = 0  # length of the vector that it takes
    condition_channels: Annotated[int, Field(ge=0, le=MAX_PLANES)] = 0  # planes of the images and maps that it takes

    def __post_init__(self) -> None:
        check_name(self.type)
        try:
            length = len(json.dumps(dict(self.args)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"args must be values of JSON: {error}") from error
        if length > MAX_ARGS:
            raise ValueError(f"args must have at most {MAX_ARGS} characters as JSON, not {length}")


def check_networks(networks: Collection[NetworkConfig | None], allowed: Collection[str]) -> None:
    """Checks that those of these networks which are of other packages may be imported; see `names.check_allowed`.

    Raises CheckpointError if one may not.
    """
    for network in networks:
        if isinstance(network, ForeignConfig):
            check_allowed(network.type, allowed)
