"""What trainings keep in a store, be it a folder or a bucket."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from difuso.jobs.trainings.states import TrainingFiles


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> TrainingFiles:
    return TrainingFiles(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path}")


def test_a_state_comes_back_and_only_those_named_are_kept(files: TrainingFiles, tmp_path: Path) -> None:
    (state := tmp_path / "state.pt").write_bytes(b"numbers")
    (there := tmp_path / "there").mkdir()
    for name in ("1-10", "2-20", "2-30", "3-25"):
        files.save("id", name, {"state.pt": state})
    files.keep("id", 2, "2-20", "2-30")
    restored = {"state.pt": there / "state.pt"}
    with pytest.raises(FileNotFoundError):
        files.restore("id", "1-10", restored)
    assert not [*there.iterdir()]
    files.keep("id", 2, "2-20")
    for name in ("2-20", "3-25"):
        files.restore("id", name, restored)
        assert restored["state.pt"].read_bytes() == b"numbers"
    with pytest.raises(FileNotFoundError):
        files.restore("id", "2-20", {**restored, "recipe.toml": there / "recipe.toml"})
    files.add_sheet("id", "sheets", 20, state)
    files.keep("id", 3)
    assert files.sheet("id", "sheets", 20) == b"numbers"
    files.delete("id")
    with pytest.raises(FileNotFoundError):
        files.sheet("id", "sheets", 20)


def test_what_nobody_knows_any_more_is_swept_once_it_is_old(files: TrainingFiles, tmp_path: Path) -> None:
    (sheet := tmp_path / "sheet.png").write_bytes(b"pixels")
    for training_id in ("known", "gone"):
        files.add_sheet(training_id, "nearest", 20, sheet)
        files.save(training_id, "1-20", {"state.pt": sheet})
    files.sweep(time.time() - 100, lambda: {"known"})
    assert files.sheet("gone", "nearest", 20), "another server of the same store may know it"
    files.sweep(time.time() + 100, lambda: {"known"})
    assert files.sheet("known", "nearest", 20)
    with pytest.raises(FileNotFoundError):
        files.sheet("gone", "nearest", 20)
    with pytest.raises(FileNotFoundError):
        files.restore("gone", "1-20", {"state.pt": tmp_path / "state.pt"})
