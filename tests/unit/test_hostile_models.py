"""A folder that was made to do harm is refused by name and reason, quickly and in little memory; the others serve."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from difuso.jobs.catalog import CatalogFollower, read_catalog
from difuso.model import load_checkpoint
from difuso.model.formats.folders import read_config
from difuso.worker.engine.models import ModelFollower
from difuso.worker.settings import WorkerSettings
from tests.hostile_models import ATTACKS, Attack, plant

REFUSER = Path(__file__).parents[1] / "hostile_models.py"
ROOM = 100 << 20  # bytes that refusing a folder may take

# Why a worker refuses each folder, and the seconds and bytes that this took.
Refusals = Mapping[str, tuple[str | None, float, int]]


@pytest.fixture(scope="module")
def models(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` and a folder for each attack."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copytree(models_dir / "tiny", folder / "tiny")
    for name in ATTACKS:
        plant(folder / "tiny", folder, name)
    return folder


def refused_by_the_front_end(attack: Attack) -> str:
    return attack.reason if attack.front_end is None else attack.front_end


@pytest.mark.parametrize("name", ATTACKS)
def test_the_front_end_goes_on(models: Path, tmp_path: Path, name: str) -> None:
    for folder in ("tiny", name):
        (tmp_path / folder).symlink_to(models / folder)
    catalog = read_catalog(tmp_path)
    assert "tiny" in catalog.models
    assert refused_by_the_front_end(ATTACKS[name]) in catalog.refused.get(name, ""), catalog.refused
    json.dumps(catalog.refused, ensure_ascii=False).encode()  # it can be sent


def test_the_front_end_follows_a_folder_whatever_comes_into_it(models: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").symlink_to(models / "tiny")
    follower = CatalogFollower(tmp_path)
    for name in ATTACKS:
        (tmp_path / name).symlink_to(models / name)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "config.json").symlink_to("config.json")
    nested = [tmp_path / "nested"]
    for _ in range(sys.getrecursionlimit()):
        nested.append(nested[-1] / "d")
    for folder in nested:
        folder.mkdir()
    assert [follower.look(), follower.look()] == [False, True]
    for folder in reversed(nested):
        folder.rmdir()  # what clears up after tests cannot
    assert "tiny" in follower.catalog.models
    assert {"loop", "nested"} <= follower.catalog.refused.keys()


@pytest.mark.parametrize("surprise", [RecursionError, MemoryError, RuntimeError])
def test_what_nobody_foresaw_ends_neither(
    models: Path, tmp_path: Path, surprise: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("new", "tiny"):
        shutil.copytree(models / "tiny", tmp_path / name)

    def raising_for_new(read: Callable[..., Any]) -> Callable[..., Any]:
        def reader(folder: Path, **arguments: Any) -> Any:
            if folder.name == "new":
                raise surprise("something internal")
            return read(folder, **arguments)

        return reader

    monkeypatch.setattr("difuso.jobs.catalog.read_config", raising_for_new(read_config))
    monkeypatch.setattr("difuso.worker.engine.models.load_checkpoint", raising_for_new(load_checkpoint))
    catalog = read_catalog(tmp_path)
    follower = ModelFollower(WorkerSettings(models_dir=tmp_path, slots=1, device="cpu"))
    follower.load_first()
    reasons = {name: why.reason for name, why in follower.models.refused.items()}
    assert catalog.refused == reasons == {"new": f"it cannot be loaded ({surprise.__name__})"}
    assert {model.ref for model in catalog.models.values()} == set(follower.models.runners)
    assert set(catalog.models) == {"tiny"}


@pytest.fixture(scope="module")
def refusals(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Refusals:
    """As `refuse_all` prints it."""
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs Linux' /proc for the memory of one process")
    command = [sys.executable, str(REFUSER), str(models), str(tmp_path_factory.mktemp("refused"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    refusals: Refusals = json.loads(done.stdout.splitlines()[-1])
    return refusals


@pytest.mark.slow
def test_the_worker_refuses_each_by_name_and_reason_at_the_start_and_while_it_runs(refusals: Refusals) -> None:
    assert refusals.keys() == ATTACKS.keys()
    for name, (reason, _, memory) in refusals.items():
        assert ATTACKS[name].reason in (reason or ""), (name, reason)
        assert memory < ROOM, name


@pytest.mark.long
def test_no_folder_takes_the_worker_two_seconds(refusals: Refusals) -> None:
    assert max(seconds for _, seconds, _ in refusals.values()) < 2
