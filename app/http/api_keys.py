"""API keys: random, shown once, and kept as hashes in a file."""

import hashlib
import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from jobs.redis.limits import Limits
from jobs.values import Frozen

PREFIX = "difuso_"  # by which programs that look for leaked secrets find a key
SECRET_BYTES = 32
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"  # of an owner


class ApiKey(Frozen):
    """One line of the keys file."""

    # the name of the key's owner, to whom jobs belong. While a key is replaced, two may have the same name.
    name: str = Field(pattern=NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # the SHA-256 of the key, hexadecimal
    role: Literal["operator"] | None = None  # an operator sees, lists and cancels the jobs of all owners
    limits: Limits = Limits()  # the limits on the owner's jobs

    @property
    def is_operator(self) -> bool:
        return self.role == "operator"


def may_see(key: ApiKey | None, owner: str | None) -> bool:
    """Returns whether the holder of a key may see the jobs of an owner; both are None on a server without keys."""
    return owner is None if key is None else key.is_operator or key.name == owner


def new_key(name: str) -> tuple[str, str]:
    """Returns a new key and its line for the keys file; raises ValueError if the name is invalid."""
    key = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    entry = ApiKey(name=name, sha256=hashlib.sha256(key.encode()).hexdigest())
    return key, f"{entry.name} {entry.sha256}"


def read_keys(path: Path) -> list[ApiKey]:
    """Reads a keys file; # begins a comment.

    A line is `NAME SHA256`, and perhaps `role=operator`, `rate=N`, `unfinished=N` and `stored=N`.

    Raises ValueError if the file cannot be read, a line is wrong, a key occurs twice, or there is no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
    keys = []
    for number, line in enumerate(lines, 1):
        try:
            if line.partition("#")[0].strip():
                keys.append(_parse(line.partition("#")[0]))
        except ValueError as error:
            raise ValueError(f"line {number} of {path}: {error}") from error
    if len({key.sha256 for key in keys}) < len(keys):
        raise ValueError(f"{path} holds a key twice; remove one of the two lines")
    if not keys:
        raise ValueError(f"there is no key in {path}; make one with `difuso key NAME`")
    return keys


def _parse(line: str) -> ApiKey:
    name, *rest = line.split()
    if not rest:
        raise ValueError("should begin with a name and the SHA-256 of a key")
    options = dict(word.partition("=")[::2] for word in rest[1:])
    try:
        return ApiKey.model_validate(
            {"name": name, "sha256": rest[0], "role": options.pop("role", None), "limits": options}
        )
    except ValidationError as error:
        raise ValueError("; ".join(f"{found['loc'][-1]}: {found['msg']}" for found in error.errors())) from error
