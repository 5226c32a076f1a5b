"""A run can be killed at any moment and still goes on from a state that is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from difuso.training.errors import RecipeError
from difuso.training.run.state import KEEP, load_state, save_state


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((3,), float(step))}


def loaded_step(folder: Path) -> int:
    found = load_state(folder)
    assert found is not None
    assert torch.equal(found["weights"], torch.full((3,), float(found["step"])))
    return int(found["step"])


def test_there_is_no_state_before_the_first(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    assert load_state(tmp_path / "nosuch") is None


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save_state(tmp_path, step, state(step))
    assert loaded_step(tmp_path) == 10
    assert len(list(tmp_path.glob("step-*"))) == KEEP


def test_a_kill_while_writing_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, 1, state(1))

    def killed(content: Any, file: Any) -> None:
        file.write(b"half a st")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, 2, state(2))
    monkeypatch.undo()
    assert loaded_step(tmp_path) == 1
    save_state(tmp_path, 2, state(2))
    assert loaded_step(tmp_path) == 2


@pytest.mark.parametrize("damage", [b"", b"half a st"], ids=["empty", "torn"])
def test_a_damaged_last_state_falls_back_to_the_one_before(tmp_path: Path, damage: bytes) -> None:
    save_state(tmp_path, 1, state(1))
    save_state(tmp_path, 2, state(2)).write_bytes(damage)
    assert loaded_step(tmp_path) == 1


@pytest.mark.parametrize("pointer", ["", "step-00000009.pt", None])
def test_a_pointer_that_points_nowhere_does_not_matter(tmp_path: Path, pointer: str | None) -> None:
    save_state(tmp_path, 1, state(1))
    if pointer is None:
        (tmp_path / "latest").unlink()
    else:
        (tmp_path / "latest").write_text(pointer)
    assert loaded_step(tmp_path) == 1


def test_a_run_whose_every_state_is_damaged_does_not_silently_start_again(tmp_path: Path) -> None:
    save_state(tmp_path, 1, state(1)).write_bytes(b"half a st")
    with pytest.raises(RecipeError, match="no state in"):
        load_state(tmp_path)
