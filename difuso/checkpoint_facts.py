"""Where `difuso convert` learns what a checkpoint's weights do not say: a file of facts, or a released checkpoint's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from model.formats.facts import ClassifierFacts, DomeFacts, Facts, GuidedFacts, HoFacts
from model.formats.released import RELEASED

from .errors import UserError

Kind = TypeVar("Kind", bound=Facts)

HEADS = ("num_heads", "num_head_channels")
EXAMPLES: dict[type[Any], Facts] = {
    GuidedFacts: RELEASED["adm-256-uncond"],
    ClassifierFacts: RELEASED["adm-classifier-256"],
    HoFacts: RELEASED["ho-lsun"],
    DomeFacts: DomeFacts(),
}


def find_facts(kind: type[Kind], source: Path, given: str | None) -> Kind:
    """The facts of a checkpoint.

    Args:
        kind: the facts that its layout needs.
        source: the file of weights; facts that are not given lie beside it, with the suffix .json.
        given: a file of facts, or the name of a released checkpoint.

    Raises:
        UserError: if facts are missing, unknown or wrong; the message lists what is missing and shows an example.
    """
    if given in RELEASED:
        released = RELEASED[given]
        if not isinstance(released, kind):
            raise UserError(f"{given} is a checkpoint of another layout than {source.name}; {_names(kind)}")
        return released
    path = Path(given) if given is not None else source.with_suffix(".json")
    if given is not None and not path.is_file():
        raise UserError(f"{given} is neither a file of facts nor a released checkpoint; {_names(kind)}")
    content = _read(path) if path.is_file() else {}
    if missing := _missing(kind, content):
        raise UserError(
            f"the weights of {source.name} do not say {', '.join(missing)}: write it into {path}, for example "
            f"{json.dumps(_example(kind))}, or name a released checkpoint with --facts; {_names(kind)}"
        )
    if unknown := content.keys() - {field.name for field in dataclasses.fields(kind)}:
        raise UserError(f"{path} holds an unknown fact {min(unknown)!r}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise UserError(f"{path}: {'; '.join(problems)}") from error


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object; for example {json.dumps(_example(GuidedFacts))}")
    return content


def _missing(kind: type[Any], content: dict[str, object]) -> list[str]:
    missing = [name for name in _required(kind) if name not in content]
    if kind is GuidedFacts and not content.keys() & set(HEADS):
        missing.append(" or ".join(HEADS))
    return missing


def _required(kind: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]


def _example(kind: type[Any]) -> dict[str, object]:
    facts = dataclasses.asdict(EXAMPLES[kind])
    heads = [name for name in HEADS if kind is GuidedFacts and facts[name] is not None]
    return {name: facts[name] for name in (*_required(kind), *heads)}


def _names(kind: type[Any]) -> str:
    names = [name for name, facts in RELEASED.items() if isinstance(facts, kind)]
    return f"known of this layout are {', '.join(names) or 'none'}"
