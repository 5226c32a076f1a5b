"""Torch builds code where nobody else can put some: for training with compile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from difuso.build_cache import SETTING, keep_builds_private
from difuso.commands import training
from difuso.errors import UserError
from difuso.worker.settings import WorkerSettings


class Begun(Exception):
    """Raised where torch would compile."""


def begin(*_: object, **__: object) -> None:
    raise Begun


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that torch is to use in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(SETTING, "")  # so that it is as before at the end
    return tmp_path / "difuso" / "torch"


def train() -> None:
    with patch.object(training, "train", begin):
        training.run_recipe("faces64", ["compile=true"], None, WorkerSettings(device="cpu"))


def try_training() -> None:
    with patch.object(training, "dry_run", begin):
        training.print_dry_run("faces64", ["compile=true"], WorkerSettings(device="cpu"))


@pytest.mark.parametrize("command", [train, try_training])
def test_whatever_compiles_builds_in_a_folder_of_its_user(command: Callable[[], None], cache: Path) -> None:
    with pytest.raises(Begun):
        command()
    assert os.environ[SETTING] == str(cache)
    assert cache.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Begun):  # once it is there
        command()


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o777])
def test_a_folder_that_others_can_use_is_refused(cache: Path, mode: int) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    with pytest.raises(UserError, match=f"others can use {cache}"):
        keep_builds_private()


def test_a_link_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.parent.mkdir()
    cache.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="others can use"):
        keep_builds_private()


def test_a_folder_of_somebody_else_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: cache.stat().st_uid + 1)
    with pytest.raises(UserError, match="others can use"):
        keep_builds_private()


def test_the_folder_that_a_user_names_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "/somewhere")
    keep_builds_private()
    assert os.environ[SETTING] == "/somewhere"


def test_without_a_cache_builds_go_into_a_temporary_folder_of_a_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    keep_builds_private()
    folder = Path(os.environ[SETTING])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
