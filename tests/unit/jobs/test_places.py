"""Where models are looked for and state lies, if no setting says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from platformdirs import user_state_path

from difuso.jobs import settings
from difuso.jobs.settings import CHECKPOINTS, SHIPPED, SharedSettings, default_models_dir, default_state_dir

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and nothing set."""
    for name in ("DIFUSO_MODELS_DIR", "DIFUSO_STATE_DIR", "DIFUSO_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_models_of_ones_own_there_is_the_one_that_comes_with_difuso(elsewhere: Path) -> None:
    assert SharedSettings().models_dir == SHIPPED
    assert (SHIPPED / "faces64" / "config.json").is_file()
    (elsewhere / CHECKPOINTS / "epoch-1").mkdir(parents=True)
    (elsewhere / CHECKPOINTS / "last.pt").touch()
    (elsewhere / CHECKPOINTS / "epoch-1" / "weights.pt").touch()
    assert default_models_dir() == SHIPPED, "the folder of another program"


@pytest.mark.parametrize("config", ["config.json", "model_index.json", "unet/config.json"])
def test_a_model_in_checkpoints_comes_first(elsewhere: Path, config: str) -> None:
    path = elsewhere / CHECKPOINTS / "Mine" / config
    path.parent.mkdir(parents=True)
    path.touch()
    assert SharedSettings().models_dir == CHECKPOINTS, "even one that is refused, so that the reason is said"


@pytest.mark.parametrize("folder", [".", "docs"])
def test_in_a_clone_state_lies_in_its_var(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.chdir(ROOT / folder)
    assert default_state_dir() == ROOT / "var"
    assert SharedSettings().store_url == str(ROOT / "var" / "store")


def test_elsewhere_state_lies_in_the_platforms_folder_of_the_user(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_state_dir() == user_state_path("difuso", appauthor=False)
    assert default_state_dir().is_absolute()
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_STATE_HOME", "/home/alice/state")
        assert SharedSettings().store_url == "/home/alice/state/difuso/store"
    monkeypatch.setattr(settings, "CLONE", elsewhere)
    assert not default_state_dir().is_relative_to(elsewhere), (
        "an installed wheel is not a clone, even if one stands there"
    )


def test_one_variable_moves_all_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFUSO_STATE_DIR", "/srv/difuso")
    assert SharedSettings().store_url == "/srv/difuso/store"
