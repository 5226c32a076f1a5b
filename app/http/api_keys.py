"""API keys: random, shown once, and kept as hashes in a file, which is read again whenever it has changed."""

import hashlib
import logging
import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from difuso.jobs.redis.limits import Limits
from difuso.jobs.values import Frozen

from ..webhooks.signing import SecretText

log = logging.getLogger(__name__)

PREFIX = "difuso_"  # by which programs that look for leaked secrets find a key
SECRET_BYTES = 32
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"  # of an owner
FACTS = ("role", "may", "webhook_secret")  # words of a key's line about the key itself; the others are limits
KEYS_LOOK_SECONDS = 1.0  # between two looks at the file


class ApiKey(Frozen):
    """One line of the keys file."""

    # the name of the key's owner, to whom jobs belong. While a key is replaced, two may have the same name.
    name: str = Field(pattern=NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # the SHA-256 of the key, hexadecimal
    role: Literal["operator"] | None = None  # an operator sees, lists and cancels the jobs of all owners
    may: Literal["train"] | None = None  # whether its holder may train models; an operator may
    webhook_secret: SecretText | None = Field(default=None, repr=False)  # that signs the webhooks of its owner's jobs
    limits: Limits = Limits()  # the limits on the owner's jobs

    @property
    def is_operator(self) -> bool:
        return self.role == "operator"

    @property
    def may_train(self) -> bool:
        return self.is_operator or self.may == "train"


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

    A line is `NAME SHA256`, and perhaps `role=operator`, `may=train`, `webhook_secret=SECRET`, `rate=N`,
    `unfinished=N` and `stored=N`.

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
            {"name": name, "sha256": rest[0], **{each: options.pop(each, None) for each in FACTS}, "limits": options}
        )
    except ValidationError as error:
        raise ValueError("; ".join(f"{found['loc'][-1]}: {found['msg']}" for found in error.errors())) from error


class KeyRing:
    """The keys of a file, of which there is always one at least.

    While the file cannot be read, is invalid or holds no key, the previous keys stay. So no mistake locks everybody
    out, and none opens the server.

    Raises ValueError like `read_keys`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.keys = tuple(read_keys(path))
        # the keys in the file, or the reason why there are none: as the last look found them, and as they count
        self._seen: tuple[ApiKey, ...] | str = self.keys
        self._read: tuple[ApiKey, ...] | str = self.keys

    @property
    def is_current(self) -> bool:
        """Whether the keys are those of the file."""
        return self._read == self.keys

    def holds(self, key: ApiKey) -> bool:
        """Returns whether a key that was found earlier is still valid, with the same rights; the rest may differ."""
        rest = {"limits": key.limits, "webhook_secret": key.webhook_secret}
        return any(key == each.model_copy(update=rest) for each in self.keys)

    def look(self) -> None:
        """Takes the keys of the file if they have changed. Blocks.

        It waits until they have not changed since the last look, so that a half-written file does not count. The file
        is read each time, since neither the link to it nor its time need change when its content does.
        """
        before, self._seen = self._seen, self._look()
        if self._seen != before or self._seen == self._read:
            return
        self._read = found = self._seen
        if isinstance(found, str):
            log.error("the previous API keys stay in use: %s", found)
            return
        self.keys = found
        log.info("the API keys were read again", extra={"keys": len(self.keys)})

    def _look(self) -> tuple[ApiKey, ...] | str:
        try:
            return tuple(read_keys(self._path))
        except ValueError as error:
            return str(error)
