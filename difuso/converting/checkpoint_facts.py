"""Finds facts that a checkpoint's weights do not contain: in a file, or by the name of a released checkpoint."""

import dataclasses
import json
from pathlib import Path
from typing import TypeVar

from difuso.model.folders.files import read_json
from difuso.model.folders.parsing import parse
from difuso.model.formats.facts import RELEASED, EDMFacts, Facts, GuidedFacts

from ..errors import UserError

Kind = TypeVar("Kind", bound=Facts)

# The example for compulsory facts without a released checkpoint.
EXAMPLES: tuple[Facts, ...] = (EDMFacts("EDMPrecond", "SongUNet", 32, 3, 10, 128, (2, 2, 2), 4, (16,)),)
HEADS = ("num_heads", "num_head_channels")


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
