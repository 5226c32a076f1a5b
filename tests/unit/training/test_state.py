"""A run can be killed at any moment and still goes on from a state that is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from difuso.training.errors import RecipeError
from difuso.training.run.state import STATE, load_state, save_state


def test_a_kill_while_writing_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_state(tmp_path) is None
    save_state(tmp_path, {"step": 1, "weights": torch.ones(3)})

    def killed(content: Any, file: Any) -> None:
        file.write(b"half a st")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, {"step": 2})
    monkeypatch.undo()
    found = load_state(tmp_path)
    assert found is not None
    assert (found["step"], found["weights"].tolist()) == (1, [1, 1, 1])
    save_state(tmp_path, {"step": 2})
    assert load_state(tmp_path) == {"step": 2}


@pytest.mark.parametrize("damage", [b"", b"half a st"], ids=["empty", "torn"])
def test_a_run_whose_state_is_damaged_does_not_silently_start_again(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / STATE).write_bytes(damage)
    with pytest.raises(RecipeError, match="cannot be read"):
        load_state(tmp_path)
