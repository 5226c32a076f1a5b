"""The full state of a run on disk: all that makes a resumed run equal to one that never stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

LATEST = "latest"
KEEP = 2


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes one state file and then points `latest` at it; a kill at any moment leaves a loadable one.

    Args:
        folder: of the run's states; the last KEEP are kept.
        step: for the file's name only, the state holds its own.
        state: tensors and plain values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.pt"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    pointer = folder / f"{LATEST}.tmp"
    pointer.write_text(path.name, encoding="utf-8")
    pointer.replace(folder / LATEST)
    for old in sorted(folder.glob("step-*.pt"))[:-KEEP]:
        old.unlink()
    return path


def load_state(folder: Path) -> dict[str, Any] | None:
    """The last state, None if the run has not saved one."""
    pointer = folder / LATEST
    if not pointer.is_file():
        return None
    state: dict[str, Any] = torch.load(folder / pointer.read_text(encoding="utf-8"), weights_only=True)
    return state
