"""Facts of published checkpoints by name, which `released.toml` holds."""

import tomllib
from importlib.resources import files
from typing import Any

from ..folders.parsing import parse
from .facts import ClassifierFacts, Facts, GuidedFacts, HoFacts, JiTFacts, ScoreSDEFacts

LAYOUTS: dict[str, Any] = {
    "guided": GuidedFacts,
    "guided_classifier": ClassifierFacts,
    "ho": HoFacts,
    "score_sde": ScoreSDEFacts,
    "jit": JiTFacts,
}


def _read() -> dict[str, Facts]:
    released: dict[str, Facts] = {}
    text = files(__package__).joinpath("released.toml").read_text("utf-8")
    for layout, tables in tomllib.loads(text).items():
        for name, table in tables.items():
            tables[name] = {**(tables[table.pop("like")] if "like" in table else {}), **table}
            released[name] = parse(LAYOUTS[layout], tables[name])
    return released


RELEASED = _read()
