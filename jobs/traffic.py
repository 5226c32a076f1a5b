"""The shares of its requests that versions of a model get, which NAME.toml says beside the model's folders:

    shares = { "ab12cd34" = 10, "ef567890" = 90 }

A key is the first digits of a version, and a share is relative to the sum of all. The id of each job is one point of
[0, 1), where the versions lie in the order of the file, and the current one above them. So the last share of the others
takes jobs from the current version only while it grows, and loses none.
"""

import hashlib
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated

from pydantic import Field

from difuso.model.errors import refused
from difuso.model.folders.files import DIGITS, is_file, read_bytes
from difuso.model.folders.parsing import parse

SHARES = ".toml"  # behind the name of a model


@dataclass(frozen=True)
class _File:
    shares: dict[Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")], Annotated[float, Field(ge=0, allow_inf_nan=False)]]


def read_shares(folder: Path, model: str, versions: Collection[str]) -> dict[str, float]:
    """Returns the share of each version that the file of a model names; none without a file.

    Digits that begin none of the versions, which are those in folders, stand for themselves.

    Raises CheckpointError if the file cannot be used, and OSError if it cannot be read at the moment.
    """
    name = f"{model}{SHARES}"
    if not is_file(folder / name):
        return {}
    with refused("all requests get the current version, because the shares are wrong"):
        shares = parse(_File, tomllib.loads(read_bytes(folder, name).decode())).shares
        if not 0 < sum(shares.values()) < math.inf:
            raise ValueError("their sum must be positive")
        found = {}
        for digits, share in shares.items():
            begun = [each for each in versions if each.startswith(digits)] or [digits[:DIGITS]]
            if len(begun) > 1 or begun[0] in found:
                raise ValueError(f"{digits} must have more digits, or go: each version may be named once")
            found[begun[0]] = share
    return found


def text_of(shares: Mapping[str, float]) -> str:
    """Returns the content of the file with the shares of these versions."""
    listed = ", ".join(f'"{version[:DIGITS]}" = {share:.9g}' for version, share in shares.items())
    return f"shares = {{ {listed} }}\n"


def parts_of(shares: Mapping[str, float], current: str, held: Collection[str]) -> dict[str, float]:
    """Returns which part of the requests, 0 to 1, each version gets, that of the current one last.

    No part grows by itself: what a version would get that is not held by any worker goes to the current one. Only if
    that is not held either, it goes to the others.
    """
    others = {version: share for version, share in shares.items() if version in held and version != current}
    rest = max(0.0, sum(shares.values()) - sum(others.values()))
    if current not in held and any(others.values()):
        rest = 0.0
    total = sum(others.values()) + rest
    return {version: share / total for version, share in {**others, current: rest}.items()}


def drawn_by(job_id: str, model: str, parts: Mapping[str, float]) -> str:
    """Returns the version of a model that draws the job of this id."""
    digest = hashlib.sha256(f"{model}/{job_id}".encode()).digest()
    point = int.from_bytes(digest[:6]) / 2**48
    *others, current = parts
    ends = zip(others, accumulate(parts.values()), strict=False)
    return next((version for version, end in ends if point < end), current)
