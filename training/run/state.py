"""The full state of a run on disk: all that makes a resumed run equal to one that never stopped; and its lock."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import RecipeError
from ..replacing import TEMPORARY, replacing

log = logging.getLogger(__name__)

LATEST = "latest"
LOCK = "lock"
KEEP = 2
FORMAT = 4  # of the content; a run with another format cannot be resumed


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes one state file and then points `latest` at it; a kill at any moment leaves a loadable one.

    The last KEEP are kept. A state is of tensors and plain values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"*{TEMPORARY}"):  # left by a process that was killed while it saved
        left.unlink()
    path = folder / f"step-{step:08d}.pt"
    with replacing(path) as file:
        torch.save(state | {"format": FORMAT}, file)
    with replacing(folder / LATEST) as file:
        file.write(path.name.encode())
    for old in sorted(folder.glob("step-*.pt"))[:-KEEP]:
        old.unlink()
    return path


def load_state(folder: Path) -> dict[str, Any] | None:
    """Loads the last state that can be read; None if the run has not saved one.

    Raises RecipeError if there are states and none of them can be read, or another version wrote them.
    """
    pointer = folder / LATEST
    latest = [folder / pointer.read_text(encoding="utf-8")] if pointer.is_file() else []
    others = sorted(folder.glob("step-*.pt"), reverse=True)
    for path in dict.fromkeys([*latest, *others]):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds of errors for a damaged file, KeyError among them
            log.warning("cannot read %s (%s); trying the state before it", path, type(error).__name__)
        else:
            if state.pop("format", 1) != FORMAT:
                raise RecipeError(f"another version of difuso began the run in {folder.parent}: give a new folder")
            return state
    if others:
        raise RecipeError(f"no state in {folder} can be read; remove the folder to start again")
    return None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Locks a folder for this process while the block runs; raises RecipeError if another process has it.

    The lock ends with the process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecipeError(f"another process trains in {folder}: wait for it, or give another folder") from None
        yield
