"""The full state of a run on disk: all that makes a resumed run equal to one that never stopped; and its lock."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import RecipeError
from ..replacing import replacing

STATE, LOCK = "state.pt", "lock"
FORMAT = 4  # of the content; a run with another format cannot be resumed


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replaces the state of a run, of tensors and plain values; a kill at any moment leaves the old one or the new."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / STATE) as file:
        torch.save(state | {"format": FORMAT}, file)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Loads the state of a run, None if there is none; raises RecipeError if it is damaged or of another version."""
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a damaged file, KeyError among them
        raise RecipeError(f"{path} cannot be read ({type(error).__name__}): remove it to start again") from error
    if state.pop("format", None) != FORMAT:
        raise RecipeError(f"another version of difuso began the run in {folder}: give a new folder")
    return state


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Locks a folder while the block runs and the process lives; raises RecipeError if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecipeError(f"another process trains in {folder}: wait for it, or give another folder") from None
        yield
