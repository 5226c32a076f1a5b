"""Reads and writes a checkpoint's config.json, and checks that the model which it describes can be served."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ..conditions import (
    CONDITIONS,
    MAX_CONDITIONS,
    MAX_EXAMPLES,
    NAME,
    Choice,
    Condition,
    Conditions,
    Number,
    Value,
    plane_count,
    sequences_in,
    type_of,
    vector_size,
)
from ..errors import CheckpointError, refused
from ..foreign.names import is_foreign
from ..networks.configs import NETWORKS, ForeignConfig, network_to_json
from ..networks.network_config import MAX_PLANES, MAX_VECTOR, NetworkConfig
from ..plans.settings import INTERVAL
from ..shape import Shape
from .config import ModelConfig, SamplerDefaults
from .never import read_never
from .parsing import parse, shown

FORMAT = 1
MAX_PLANS = 64

RESERVED = {  # names that no condition may have, each with the reason
    "label": "write the names of its values as `classes`",
    "image": "write the image to enlarge as the table `condition`, and give another image another name",
    **dict.fromkeys(("image_a", "image_b", "mask", "noise"), "kinds of jobs name an upload so; choose another name"),
}

DEFAULTS = TypeAdapter(SamplerDefaults)
NETWORK_SECTIONS = ("network", "weaker")

Kind = TypeVar("Kind")


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """Returns the content of config.json, without the number of parameters."""
    content = dataclasses.asdict(config)
    for name in NETWORK_SECTIONS:
        network = getattr(config, name)
        content[name] = None if network is None else network_to_json(network)
    content["conditions"] = {
        name: {"type": type_of(condition), **content["conditions"][name]}
        for name, condition in config.conditions.items()
    }
    content["defaults"] = DEFAULTS.dump_python(config.defaults)
    content["plans"] = {name: DEFAULTS.dump_python(plan) for name, plan in config.plans.items()}
    for name in ("instead_of", "never", "shown"):
        if content[name] in (None, ()):
            del content[name]
    return {"format": FORMAT, **content}


def config_to_text(content: Mapping[str, Any]) -> str:
    """Returns the text of config.json. A list of values is one line: examples have thousands of them."""
    text = json.dumps(content, indent=2) + "\n"
    # Only what `json.dumps` broke and indented is joined, wherever a bracket stands: no string has an end of line.
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\n\s+", " ", found[0]), text)


@refused("config.json")
def config_from_json(content: Mapping[str, Any]) -> ModelConfig:
    """Reads the content of config.json; the reverse of `config_to_json`.

    Raises CheckpointError if the format is unknown, if a field is missing, unknown or impossible, or if a number is out
    of its bound; the message names the field.
    """
    if content.get("format") != FORMAT:
        raise CheckpointError(f"config.json has format {content.get('format')!r}; this version reads format {FORMAT}")
    fields = {name: value for name, value in content.items() if name not in ("format", "parameters")}
    if "schedule" not in fields:
        raise ValueError("schedule is missing")
    fields["conditions"] = read_conditions(fields.get("conditions") or {})
    fields["examples"] = _examples(fields.get("examples") or {}, fields["conditions"])
    fields["never"] = read_never(fields.get("never", ()), fields["conditions"], fields["examples"])
    for name in NETWORK_SECTIONS:
        if fields.get(name) is not None:
            fields[name] = _network(name, fields[name], fields)
    fields["plans"] = read_plans({} if fields.get("plans") is None else fields["plans"])
    config = parse(ModelConfig, fields)
    _check(config)
    return config


def read_plans(content: Any) -> dict[str, SamplerDefaults]:
    """Parses a table of a model's named plans; raises ValueError if it is none."""
    plans = _tables("plans", content, MAX_PLANS)
    return {name: parse(SamplerDefaults, plan, f"plans.{name}.") for name, plan in plans.items()}


def _tables(name: str, content: Any, most: int) -> Mapping[str, Mapping[str, Any]]:
    """Returns a table of tables after checking that it is one; raises ValueError."""
    if not isinstance(content, Mapping) or not all(isinstance(table, Mapping) for table in content.values()):
        raise ValueError(f"{name} must be a table of tables")
    if len(content) > most:
        raise ValueError(f"{name} must have at most {most} entries")
    return content


def _network(name: str, content: Any, model: Mapping[str, Any]) -> NetworkConfig:
    if not isinstance(content, Mapping):
        raise ValueError(f"{name} must be a table, got {shown(content)}")
    if is_foreign(content.get("type")):
        return parse(ForeignConfig, {**_implied(model), **content}, f"{name}.")
    return _typed(NETWORKS, content, f"{name}.", own="; or yours, package.module:Class")


def _typed(kinds: Mapping[str, type[Kind]], content: Mapping[str, Any], prefix: str, own: str = "") -> Kind:
    """Parses a table whose `type` is one of these; raises ValueError."""
    kind = content.get("type")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{prefix}type must be one of {', '.join(kinds)}, got {shown(kind)}{own}")
    return parse(kinds[kind], {name: value for name, value in content.items() if name != "type"}, prefix)


def _implied(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts of a network that follow from the other fields of its model, whose conditions are read."""
    conditions, classes = model["conditions"], model.get("classes")
    enlarged = 0 if model.get("condition") is None else model.get("channels", 3)
    return {
        "num_classes": None if classes is None else len(classes),
        "vector_size": vector_size(conditions),
        "condition_channels": plane_count(conditions) + enlarged,
    }


def read_conditions(content: Any) -> dict[str, Condition]:
    """Reads the table `conditions` of a config or a recipe.

    Raises ValueError if a field is missing, unknown or impossible; the message names it.
    """
    tables = _tables("conditions", content, MAX_CONDITIONS)
    conditions = {name: _typed(CONDITIONS, table, f"conditions.{name[:32]}.") for name, table in tables.items()}
    _check_conditions(conditions)
    return conditions


def _check_conditions(conditions: Conditions) -> None:
    """Checks the names of a model's conditions, and the size of a network's inputs for them; raises ValueError."""
    for name in conditions:
        if not re.fullmatch(NAME, name):
            raise ValueError(f"conditions: a name has up to 32 small letters, digits and _, unlike {name[:64]!r}")
        if name in RESERVED:
            raise ValueError(f"conditions.{name}: {RESERVED[name]}")
    for count, most, what in ((vector_size, MAX_VECTOR, "entries"), (plane_count, MAX_PLANES, "planes")):
        if count(conditions) > most:
            raise ValueError(f"conditions have {count(conditions)} {what}, more than {most}")
    if len(sequences := sequences_in(conditions)) > 1:
        raise ValueError(f"conditions have {len(sequences)} sequences, more than one: {', '.join(sequences)}")


def _examples(content: Any, conditions: Conditions) -> dict[str, tuple[Value, ...]]:
    """Reads rows of values that conditions take, a list for each condition; raises ValueError."""
    if not isinstance(content, Mapping) or not all(isinstance(column, list | tuple) for column in content.values()):
        raise ValueError("examples must be a table of lists")
    if len({len(column) for column in content.values()}) > 1:
        raise ValueError("examples: all conditions must have equally many")
    examples = {}
    for name, column in content.items():
        condition = conditions.get(name)
        if not isinstance(condition, Choice | Number):
            raise ValueError(f"examples.{name[:32]} must be left out: examples are of choices and numbers only")
        if not 1 <= len(column) <= MAX_EXAMPLES:
            raise ValueError(f"examples.{name} must have 1 to {MAX_EXAMPLES} values")
        try:
            examples[name] = tuple(map(condition.read, column))
        except ValueError as error:
            raise ValueError(f"examples.{name}: each {error}") from error
    return examples


def _check(config: ModelConfig) -> None:
    if config.network.in_channels != config.channels:
        raise ValueError("channels must equal the network's in_channels")
    if config.shown is not None and (config.shape.planes == 1 or max(config.shown) >= config.channels):
        raise ValueError(
            f"shown must name three of {config.channels} channels, from 0 on"
            if config.shape.planes > 1
            else f"shown must be left out: images of {config.channels} channels are shown as they are"
        )
    with_variance = 2 * config.channels
    allowed = (with_variance,) if config.variance.startswith("learned") else (config.channels, with_variance)
    if config.network.out_channels not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ValueError(f"with variance {config.variance} the network needs out_channels {wanted}")
    networks = [config.network, *filter(None, [config.weaker])]
    if config.preconditioning is not None and any(each.out_channels != config.channels for each in networks):
        raise ValueError(f"with a preconditioning a network needs out_channels {config.channels}")
    shape = config.shape
    for multiple in (each.size_multiple for each in networks):
        if shape.height % multiple or shape.width % multiple:
            raise ValueError(
                f"image_size must be a multiple of {multiple} in height and width, the network's size_multiple, not "
                f"{shape.in_pixels}"
            )
    if config.network.num_classes != (None if config.classes is None else len(config.classes)):
        raise ValueError("classes and the network's num_classes disagree")
    _check_condition(config)
    if config.examples and config.classes is not None:
        raise ValueError("examples must be left out for a model with classes, which they do not have")
    _check_classifier(config)
    _check_weaker(config)
    _check_defaults(config)
    schedule = config.schedule.build()
    if config.preconditioning is not None:
        config.preconditioning.check(config.prediction, schedule)
    # A request without settings must have a plan; this also checks schedule, prediction and variance.
    config.plan(schedule, steps=config.defaults.steps)
    for name in config.plans:
        config.plan_of(schedule, config.settle(plan=name))


def _check_condition(config: ModelConfig) -> None:
    """Checks that the network takes the conditions."""
    network, entries, planes = config.network, vector_size(config.conditions), plane_count(config.conditions)
    if network.vector_size != entries:
        raise ValueError(f"network.vector_size must be {entries}, as `conditions` have it, got {network.vector_size}")
    for name in sequences_in(config.conditions):
        if not all(isinstance(each, ForeignConfig) for each in (network, config.weaker or network)):
            raise ValueError(f"conditions.{name}: only your own network, package.module:Class, takes a sequence")
    channels = network.condition_channels - planes
    if config.condition is None:
        if channels:
            raise ValueError(
                f"condition_channels must be {planes}, as `conditions` have planes, got {network.condition_channels}; "
                "a network that enlarges an image needs the table condition"
            )
        return
    if channels not in (1, 3):
        raise ValueError(f"condition_channels must be {planes + 1} or {planes + 3}, got {network.condition_channels}")
    if not config.shape.is_square or config.shape.planes > 1:
        raise ValueError("a network with a condition draws squares of 1 or 3 channels: change image_size or channels")
    if config.condition.size > config.shape.height:
        raise ValueError(f"condition.size must be at most image_size, {config.shape.height}")


def _check_classifier(config: ModelConfig) -> None:
    classifier = config.classifier
    if classifier is None:
        return
    if config.shape != Shape.of(classifier.image_size, classifier.in_channels):
        raise ValueError(
            "the classifier's in_channels and image_size must be the model's channels and image_size: "
            "make image_size the same, one number, and the channels too"
        )
    if config.classes is not None and classifier.num_classes != len(config.classes):
        raise ValueError("classes and the classifier's num_classes disagree")


def _check_weaker(config: ModelConfig) -> None:
    """Checks that the weaker network can be called with the same arguments as the network."""
    if config.weaker is None:
        return
    if config.condition is not None:
        raise ValueError("a network with a condition cannot have a weaker network")
    for name in ("in_channels", "condition_channels", "vector_size", "num_classes", "null_class"):
        if getattr(config.weaker, name) != (wanted := getattr(config.network, name)):
            raise ValueError(f"weaker.{name} must be the network's, {wanted}")
    if config.weaker.out_channels < config.channels:
        raise ValueError(f"weaker.out_channels must be at least {config.channels}")


def _check_defaults(config: ModelConfig) -> None:
    """Checks that the model can be guided as its defaults and plans say."""
    named = {"defaults": config.defaults, **{f"plans.{name}": plan for name, plan in config.plans.items()}}
    for name, settings in named.items():
        if config.weaker is None and settings.guidance_scale != 1.0:
            raise ValueError(f"{name}.guidance_scale must be 1 for a model without a weaker network")
        for end in INTERVAL:
            if getattr(settings, end) is not None and config.never_guided is not None:
                raise ValueError(f"{name}.{end} must be left out: the model {config.never_guided}")
