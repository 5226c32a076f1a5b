"""The models folder as front ends see it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from difuso.jobs.catalog import Catalog, CatalogFollower, ModelInfo, read_catalog
from difuso.jobs.errors import RequestRefused, VersionGone
from difuso.jobs.model_folders import NO_NAME
from difuso.model.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(models_dir / "tiny", tmp_path / "tiny")
    return tmp_path


def test_facts_come_from_the_config(folder: Path) -> None:
    catalog = read_catalog(folder)
    tiny = catalog.models["tiny"]
    assert (tiny.config.shape, tiny.config.schedule.num_train_timesteps) == ((3, 16, 16), 1000)
    assert tiny.schedule.num_train_timesteps == 1000
    assert tiny.version == load_checkpoint(folder / "tiny").version
    assert catalog.default == "tiny"
    assert not catalog.refused


@pytest.mark.parametrize("name", ["Faces64", "x" * 65])
def test_a_model_of_another_name_is_passed_over_with_the_reason(folder: Path, name: str) -> None:
    follower = CatalogFollower(folder)
    shutil.copytree(folder / "tiny", folder / name)
    catalog = read_catalog(folder)
    assert set(catalog.models) == {"tiny"}
    assert catalog.refused == {name: NO_NAME}
    assert not follower.look()  # it may still be written
    assert follower.look()
    assert follower.catalog == catalog


def test_other_folders_and_hidden_ones_are_passed_over(folder: Path) -> None:
    shutil.copytree(folder / "tiny", folder / ".Hidden")
    (folder / "Lost+Found").mkdir()
    (folder / "NOTES").write_text("")
    assert read_catalog(folder).refused == {}


def test_what_is_wrong_is_named(folder: Path) -> None:
    for name in ("no-config", "no-sums", "no-json", "no-size", "other-sums", "odd-sum"):
        shutil.copytree(folder / "tiny", folder / name)
    (folder / "no-config" / "config.json").unlink()
    (folder / "no-sums" / "SHA256SUMS").unlink()
    (folder / "no-json" / "config.json").write_text("weights")
    config = (folder / "no-size" / "config.json").read_text()
    (folder / "no-size" / "config.json").write_text(config.replace('"image_size"', '"sise"'))
    (folder / "other-sums" / "SHA256SUMS").write_text("00  config.json\n")
    (folder / "odd-sum" / "SHA256SUMS").write_text("00  model.safetensors\n")
    refused = dict(read_catalog(folder).refused)
    assert refused.pop("no-size").startswith("config.json: unknown key sise: known are network, image_size, ")
    assert refused == {
        "no-config": "config.json is missing",
        "no-sums": "SHA256SUMS is missing",
        "no-json": "config.json is not JSON: expected value at line 1 column 1",
        "odd-sum": "SHA256SUMS holds an invalid SHA-256 of model.safetensors",
        "other-sums": "SHA256SUMS does not name model.safetensors",
    }


def test_no_folder_is_an_empty_catalog(tmp_path: Path) -> None:
    catalog = read_catalog(tmp_path / "nowhere")
    assert catalog.default is None


@pytest.fixture
def pipeline(models_dir: Path, tmp_path: Path) -> Path:
    """`tiny` as a folder of diffusers: 16x16 RGB, T = 1000, v."""
    from difuso.model.formats.diffusers.pipeline import write_diffusers

    tiny = load_checkpoint(models_dir / "tiny")
    write_diffusers(tmp_path / "pipeline", tiny.config, tiny.network)
    return tmp_path / "pipeline"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_loaded(folder: Path) -> ModelInfo:
    """What a worker knows of the model, as a front end would say it."""
    checkpoint = load_checkpoint(folder)
    return ModelInfo(
        checkpoint.name,
        checkpoint.config,
        parameters=sum(parameter.numel() for parameter in checkpoint.network.parameters()),
        version=checkpoint.version,
        path=folder,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"_class_name": "DDPMScheduler", "num_train_timesteps": 30, "variance_type": "fixed_large"},
        {"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True, "timestep_spacing": "leading"},
    ],
    ids=str,
)
def test_front_end_and_worker_read_a_diffusers_folder_alike(pipeline: Path, changes: dict[str, Any]) -> None:
    (pipeline / "SHA256SUMS").unlink()
    edit(pipeline / "scheduler" / "scheduler_config.json", **changes)
    assert read_catalog(pipeline.parent).models["pipeline"] == as_loaded(pipeline)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "diffusion_pytorch_model.safetensors is missing"),
        (lambda path: path.write_bytes(b"\xff" * 64), "is not a safetensors file"),
    ],
    ids=["none", "too long a header"],
)
def test_weights_whose_header_cannot_be_read(pipeline: Path, damage: Any, reason: str) -> None:
    damage(pipeline / "unet" / "diffusion_pytorch_model.safetensors")
    assert reason in read_catalog(pipeline.parent).refused["pipeline"]


def test_a_folder_is_read_again_once_its_change_stands_still(folder: Path) -> None:
    follower = CatalogFollower(folder, default="newer")
    first = follower.catalog
    assert not follower.look()
    shutil.copytree(folder / "tiny", folder / "newer")
    assert not follower.look(), "it may still be written"
    assert follower.look()
    assert set(follower.catalog.models) == {"tiny", "newer"}
    assert follower.catalog.choose(None).name == "newer"
    assert set(first.models) == {"tiny"}
    (folder / "newer" / "config.json").write_text("{}")
    assert [follower.look(), follower.look(), follower.look()] == [False, True, False]
    assert set(follower.catalog.refused) == {"newer"}
    shutil.rmtree(folder / "newer")
    assert [follower.look(), follower.look()] == [False, True]
    assert follower.catalog == first


def other_version(folder: Path, name: str, *, of: str = "tiny", change: float = 0.5) -> str:
    """Writes another version of the model into a folder of this name, and returns it."""
    checkpoint = load_checkpoint(folder / of)
    checkpoint.network.requires_grad_(False).get_parameter("conv_out.bias").add_(change)
    save_checkpoint(folder / name, checkpoint.config, checkpoint.network)
    return load_checkpoint(folder / name).version


def versions_of(catalog: Catalog) -> list[str]:
    return [model.version for model in catalog.versions["tiny"]]


def test_a_version_is_what_a_shell_makes_of_the_files(folder: Path) -> None:
    command = "sha256sum config.json model.safetensors | sha256sum"
    done = subprocess.run(command, shell=True, cwd=folder / "tiny", capture_output=True, text=True, check=True)
    assert read_catalog(folder).models["tiny"].version == done.stdout.split()[0]


def test_a_version_counts_config_and_weights_and_not_the_card(folder: Path) -> None:
    before = read_catalog(folder).models["tiny"].version
    (folder / "tiny" / "README.md").write_text("A card.")
    assert read_catalog(folder).models["tiny"].version == before
    assert other_version(folder, "tiny") != before


def test_a_folder_of_diffusers_has_one_version_with_and_without_its_sums(pipeline: Path) -> None:
    summed = read_catalog(pipeline.parent).models["pipeline"].version
    (pipeline / "SHA256SUMS").unlink()
    assert read_catalog(pipeline.parent).models["pipeline"].version == summed == load_checkpoint(pipeline).version


def test_the_folder_without_a_tag_is_newest_and_then_the_one_that_changed_last(folder: Path) -> None:
    tagged = {tag: other_version(folder, f"tiny@{tag}", change=change) for tag, change in (("b", 1.0), ("a", 2.0))}
    for age, tag in enumerate("ab"):
        for path in (folder / f"tiny@{tag}").iterdir():
            os.utime(path, (1e9 - age, 1e9 - age))
    catalog = read_catalog(folder)
    plain = load_checkpoint(folder / "tiny").version
    assert versions_of(catalog) == [plain, tagged["a"], tagged["b"]]
    assert [model.folder for model in catalog.versions["tiny"]] == ["tiny", "tiny@a", "tiny@b"]
    shutil.rmtree(folder / "tiny")
    assert versions_of(read_catalog(folder)) == [tagged["a"], tagged["b"]]


def test_a_front_end_remembers_the_versions_that_workers_may_still_hold(folder: Path) -> None:
    follower = CatalogFollower(folder)
    versions = versions_of(follower.catalog)
    for change in (1.0, 2.0, 3.0, 4.0):
        versions.insert(0, other_version(folder, "tiny", change=change))
        follower.look()
        assert follower.look()
    assert versions_of(follower.catalog) == versions[:4], "three earlier ones"
    shutil.rmtree(folder / "tiny")
    follower.look()
    assert follower.look()
    assert follower.catalog.versions == {}


def test_the_current_version_is_the_newest_that_a_worker_holds(folder: Path) -> None:
    follower = CatalogFollower(folder)
    old = follower.catalog.models["tiny"]
    other_version(folder, "tiny")
    follower.look()
    follower.look()
    new = follower.catalog.models["tiny"]
    assert new != old
    for held, current in (({old.ref}, old), ({old.ref, new.ref}, new), (set(), new), ({"tiny@0123456789ab"}, new)):
        follower.hear(frozenset(held))
        assert follower.catalog.choose("tiny") == current


def test_a_request_names_a_version_by_its_first_digits(folder: Path) -> None:
    other = other_version(folder, "tiny@other")
    catalog = read_catalog(folder)
    plain = catalog.models["tiny"].version
    assert catalog.choose("tiny", version=other[:12]).version == other
    assert catalog.choose(None, version=plain).version == plain
    with pytest.raises(VersionGone, match="no folder of version 000000000000 of tiny"):
        catalog.choose("tiny", version="0" * 12)
    with pytest.raises(RequestRefused, match="more digits: 2 versions begin with these"):
        catalog.choose("tiny", version="")


def test_a_model_stays_while_its_folder_has_a_wrong_config(folder: Path) -> None:
    """Workers keep the previous version, too."""
    follower = CatalogFollower(folder)
    before = follower.catalog.models["tiny"]
    (folder / "tiny" / "config.json").write_text("{}")
    follower.look()
    assert follower.look()
    assert follower.catalog.choose("tiny") == before
    assert follower.catalog.refused.keys() == {"tiny"}
    shutil.rmtree(folder / "tiny")
    follower.look()
    assert follower.look()
    assert (follower.catalog.models, follower.catalog.refused) == ({}, {})


def test_a_candidate_gets_no_request_that_does_not_name_it(folder: Path) -> None:
    candidate = other_version(folder, "tiny@candidate")
    follower = CatalogFollower(folder)
    follower.hear(frozenset({f"tiny@{candidate[:12]}"}))
    assert follower.catalog.choose("tiny").version != candidate


def test_the_version_of_before_counts_as_such_though_its_folder_has_a_tag_now(folder: Path) -> None:
    """As when a rollout keeps it beside the new one."""
    follower = CatalogFollower(folder)
    before = follower.catalog.models["tiny"]
    (folder / "tiny").rename(folder / "tiny@before")
    newer = other_version(folder, "tiny", of="tiny@before")
    follower.look()
    follower.look()
    assert follower.catalog.choose("tiny").version == newer
    follower.hear(frozenset({before.ref}))
    assert follower.catalog.choose("tiny").version == before.version


def test_a_model_that_was_trained_here_is_one_more_but_never_the_default(folder: Path, tmp_path: Path) -> None:
    trained = tmp_path / "of trainers"
    follower = CatalogFollower(folder, trained)
    for name in ("a", "tiny"):
        shutil.copytree(folder / "tiny", trained / name)
    (trained / "tiny" / "config.json").write_text("{}")
    assert [follower.look(), follower.look()] == [False, True]
    assert set(follower.catalog.models) == {"a", "tiny"}
    assert follower.catalog.default == "tiny"
    assert not follower.catalog.refused, "the first folder's is meant"
    assert follower.catalog.models["a"].path == trained / "a"
    shutil.rmtree(trained / "a")
    assert [follower.look(), follower.look()] == [False, True]
    assert set(follower.catalog.models) == {"tiny"}
