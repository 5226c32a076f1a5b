"""The models folder as front ends see it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from jobs.catalog import read_catalog


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(models_dir / "tiny", tmp_path / "tiny")
    return tmp_path


def test_facts_come_from_the_config(folder: Path) -> None:
    catalog = read_catalog(folder)
    tiny = catalog.models["tiny"]
    assert (tiny.image_size, tiny.channels, tiny.num_train_timesteps) == (16, 3, 1000)
    assert len(tiny.sha256) == 64
    assert catalog.default == "tiny"
    assert not catalog.refused


@pytest.mark.parametrize("name", ["UPPER", ".hidden", "with space", "x" * 65])
def test_other_names_are_not_models(folder: Path, name: str) -> None:
    shutil.copytree(folder / "tiny", folder / name)
    assert set(read_catalog(folder).models) == {"tiny"}


def test_what_is_wrong_is_named(folder: Path) -> None:
    for name in ("no-config", "no-sums", "no-json", "no-size", "other-sums"):
        shutil.copytree(folder / "tiny", folder / name)
    (folder / "no-config" / "config.json").unlink()
    (folder / "no-sums" / "SHA256SUMS").unlink()
    (folder / "no-json" / "config.json").write_text("weights")
    config = (folder / "no-size" / "config.json").read_text()
    (folder / "no-size" / "config.json").write_text(config.replace('"image_size"', '"size"'))
    (folder / "other-sums" / "SHA256SUMS").write_text("00  config.json\n")
    assert read_catalog(folder).refused == {
        "no-config": "config.json is missing",
        "no-sums": "SHA256SUMS is missing",
        "no-json": "config.json or SHA256SUMS cannot be read",
        "no-size": "config.json: image_size is missing or wrong",
        "other-sums": "SHA256SUMS does not name model.safetensors",
    }


def test_no_folder_is_an_empty_catalog(tmp_path: Path) -> None:
    catalog = read_catalog(tmp_path / "nowhere")
    assert catalog.default is None
