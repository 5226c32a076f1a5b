"""The folder that a process keeps equal to the models of an address."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from pydantic import ValidationError

from difuso.app.settings import ApiSettings
from difuso.jobs import mirror as mirrors
from difuso.jobs.catalog import read_catalog
from difuso.jobs.mirror import Mirror
from difuso.jobs.pushed_models import PushedFile, PushedModel, push
from difuso.jobs.settings import SharedSettings
from difuso.jobs.store.blobs import Blobs
from difuso.jobs.traffic import text_of
from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from difuso.model.errors import CheckpointError
from difuso.model.formats.diffusers.pipeline import write_diffusers
from difuso.worker.settings import WorkerSettings
from tests.waiting import wait_until

SHIPPED = Path(__file__).parents[3] / "checkpoints"


@pytest.fixture(params=["bucket", "folder"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path}/models" if request.param == "bucket" else f"file://{tmp_path}/address"


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    return f"memory://{tmp_path}/models"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were downloaded."""
    done: list[str] = []
    download = Blobs.download

    def noted(self: Blobs, path: PurePosixPath, file: Path) -> None:
        done.append(path.name)
        download(self, path, file)

    monkeypatch.setattr(Blobs, "download", noted)
    return done


def mirror_of(address: str, tmp_path: Path, kind: type[SharedSettings] = WorkerSettings, **settings: Any) -> Mirror:
    return Mirror(kind(models_dir=address, state_dir=tmp_path / "state", **settings))


def newer(models_dir: Path, folder: Path, shift: float = 0.05) -> Path:
    """Another version of `tiny`."""
    tiny = load_checkpoint(models_dir / "tiny")
    tiny.network.requires_grad_(False).get_parameter("conv_out.bias").add_(shift)
    save_checkpoint(folder / "tiny", tiny.config, tiny.network)
    return folder / "tiny"


def put(blobs: Blobs, name: str, files: dict[str, PushedFile]) -> None:
    """Puts a manifest at an address that `push` would not write."""
    model = PushedModel(version="0" * 64, pushed_at=1.0, files=files)
    blobs.write(blobs.root / f"{name}.json", model.model_dump_json(exclude_none=True).encode())


def version_in(folder: Path, name: str = "tiny") -> str:
    return read_catalog(folder).models[name].version


def test_a_worker_gets_the_model_that_was_pushed(models_dir: Path, address: str, tmp_path: Path) -> None:
    mirror = mirror_of(address, tmp_path)
    pushed = push(models_dir / "tiny", Blobs(address), "tiny")
    mirror.look()
    assert mirror.trouble is None
    loaded = load_checkpoint(mirror.folder / "tiny")
    assert loaded.version == pushed.version == load_checkpoint(models_dir / "tiny").version


def test_a_worker_of_some_models_fetches_these_and_leaves_those_of_others_of_its_machine(
    models_dir: Path, bucket: str, tmp_path: Path
) -> None:
    for name in ("one", "two", "three"):
        push(models_dir / "tiny", Blobs(bucket), name)
    for setting, value, here in (("models", "one", {"one"}), ("pools", "one,three", {"one", "two"})):
        settings = WorkerSettings.model_validate(
            {"models_dir": bucket, "state_dir": tmp_path / "state", setting: value}
        )
        mirror = Mirror(settings, settings.serves)
        mirror.look()
        assert {path.name for path in mirror.folder.iterdir() if path.is_dir()} == here
        assert mirror.trouble is None


def test_a_front_end_sees_what_it_would_see_in_the_folder_without_the_weights(
    address: str, tmp_path: Path, downloads: list[str]
) -> None:
    mirror = mirror_of(address, tmp_path, ApiSettings)
    pushed = push(SHIPPED / "fashion32", Blobs(address), "fashion32")
    mirror.look()
    (here,), (there,) = (read_catalog(each).versions["fashion32"] for each in (mirror.folder, SHIPPED))
    for fact in ("config", "parameters", "version", "about", "labels", "documents"):
        assert getattr(here, fact) == getattr(there, fact), fact
    assert here.documents
    assert here.labels
    weights = [file for path, file in pushed.files.items() if path.endswith(".safetensors")]
    assert len(weights) == 2
    assert not {file.sha256 for file in weights}.intersection(downloads)
    kept = sum(path.stat().st_blocks * 512 for path in here.path.glob("*.safetensors"))
    assert kept < 100_000 < sum(file.size for file in weights)


def test_a_folder_of_diffusers_without_sums_has_its_version_everywhere(
    models_dir: Path, bucket: str, tmp_path: Path
) -> None:
    tiny = load_checkpoint(models_dir / "tiny")
    write_diffusers(tmp_path / "own/theirs", tiny.config, tiny.network)
    (tmp_path / "own/theirs/SHA256SUMS").unlink()
    push(tmp_path / "own/theirs", Blobs(bucket), "theirs")
    versions = {version_in(tmp_path / "own", "theirs")}
    for kind in (ApiSettings, WorkerSettings):
        mirror = mirror_of(bucket, tmp_path, kind)
        mirror.look()
        versions.add(version_in(mirror.folder, "theirs"))
    assert versions == {load_checkpoint(mirror.folder / "theirs").version}


def test_versions_come_and_go_with_the_address(models_dir: Path, address: str, tmp_path: Path) -> None:
    mirror, blobs = mirror_of(address, tmp_path), Blobs(address)
    first = push(models_dir / "tiny", blobs, "tiny").version
    mirror.look()
    second = push(newer(models_dir, tmp_path), blobs, "tiny").version
    push(models_dir / "tiny", blobs, "tiny@before")
    mirror.look()
    found = [each.version for each in read_catalog(mirror.folder).versions["tiny"]]
    assert found == [second, first]
    blobs.delete(blobs.root / "tiny@before.json")
    mirror.look()
    assert [each.version for each in read_catalog(mirror.folder).versions["tiny"]] == [second]


@pytest.mark.parametrize("kind", [ApiSettings, WorkerSettings])
def test_shares_of_versions_come_and_go_with_the_address(
    models_dir: Path, address: str, tmp_path: Path, kind: type[SharedSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, blobs = mirror_of(address, tmp_path, kind), Blobs(address)
    version = push(models_dir / "tiny", blobs, "tiny").version
    other = push(newer(models_dir, tmp_path), blobs, "tiny@next").version
    for share in (10, 20):
        blobs.write(blobs.root / "tiny.toml", text_of({other: share, version: 100 - share}).encode())
        mirror.look()
        assert read_catalog(mirror.folder).shares == {"tiny": {other: share, version: 100 - share}}
    blobs.write(blobs.root / ".hidden.toml", b"")
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "read", None)
        mirror.look()  # reads nothing again
    assert mirror.trouble is None
    assert [path.name for path in mirror.folder.glob("*.toml")] == ["tiny.toml"]
    blobs.delete(blobs.root / "tiny.toml")
    mirror_of(address, tmp_path, kind).look()
    assert not read_catalog(mirror.folder).shares


def test_further_versions_are_in_the_order_of_their_pushes_everywhere(
    models_dir: Path, bucket: str, tmp_path: Path
) -> None:
    from_the_start, late = (mirror_of(bucket, tmp_path / place) for place in ("one", "two"))
    versions = []
    for name, shift in (("tiny@b", 0.1), ("tiny@c", 0.2), ("tiny@a", 0.3)):
        versions.append(push(newer(models_dir, tmp_path / name, shift), Blobs(bucket), name).version)
        from_the_start.look()
    late.look()
    for mirror in (from_the_start, late):
        assert [each.version for each in read_catalog(mirror.folder).versions["tiny"]] == versions[::-1]


def test_a_model_that_was_pushed_by_half_is_not_seen(
    models_dir: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, write = mirror_of(address, tmp_path), Blobs.write
    version = push(models_dir / "tiny", Blobs(address), "tiny").version
    mirror.look()

    def die(self: Blobs, path: PurePosixPath, data: bytes) -> None:
        if path.suffix == ".json":
            raise ConnectionError
        write(self, path, data)

    monkeypatch.setattr(Blobs, "write", die)
    for name in ("tiny", "other"):
        with pytest.raises(ConnectionError):
            push(newer(models_dir, tmp_path), Blobs(address), name)
    mirror.look()
    assert mirror.trouble is None
    assert read_catalog(mirror.folder).models.keys() == {"tiny"}
    assert version_in(mirror.folder) == version


@pytest.mark.parametrize("kind", [ApiSettings, WorkerSettings])
def test_a_damaged_file_is_refused_until_it_is_right(
    models_dir: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[SharedSettings]
) -> None:
    monkeypatch.setattr(mirrors, "REST", 0)
    mirror, blobs = mirror_of(bucket, tmp_path, kind), Blobs(bucket)
    before = push(models_dir / "tiny", blobs, "tiny").version
    mirror.look()
    pushed = push(newer(models_dir, tmp_path), blobs, "tiny")
    weights = blobs.root / "files" / pushed.files["model.safetensors"].sha256
    right = blobs.read(weights)
    blobs.write(weights, right[:20] + b"?" + right[21:])
    for _ in range(2):
        mirror.look()
        assert mirror.trouble is not None
        assert "damaged" in mirror.trouble
        assert version_in(mirror.folder) == before
    blobs.write(weights, right)
    mirror.look()
    assert mirror.trouble is None
    assert version_in(mirror.folder) == pushed.version


def test_a_fetch_goes_on_with_the_file_that_failed_and_gives_others_a_rest(
    models_dir: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: list[str]
) -> None:
    mirror, blobs = mirror_of(bucket, tmp_path), Blobs(bucket)
    pushed = push(models_dir / "tiny", blobs, "tiny")
    weights = pushed.files["model.safetensors"].sha256
    monkeypatch.setattr(mirrors, "REST", 1e9)
    data = blobs.read(blobs.root / "files" / weights)
    blobs.delete(blobs.root / "files" / weights)
    mirror.look()
    assert weights in downloads
    assert not (mirror.folder / "tiny").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "read", None)
        mirror.look()
    assert mirror.trouble is not None
    assert "nothing lies there" in mirror.trouble, "not that of a further try, which is made after a rest"
    blobs.write(blobs.root / "files" / weights, data)
    monkeypatch.setattr(mirrors, "REST", 0)
    mirror = mirror_of(bucket, tmp_path)
    downloads.clear()
    mirror.look()
    later = [file.sha256 for path, file in pushed.files.items() if path not in ("SHA256SUMS",)]
    assert weights in downloads
    assert set(downloads) <= set(later[later.index(weights) :])
    assert version_in(mirror.folder) == pushed.version


def test_a_process_that_starts_again_or_beside_another_fetches_nothing(
    models_dir: Path, bucket: str, tmp_path: Path, downloads: list[str]
) -> None:
    push(models_dir / "tiny", Blobs(bucket), "tiny")
    push(models_dir / "tiny", Blobs(bucket), "same")
    for _ in range(2):
        mirror_of(bucket, tmp_path).look()
    assert len(downloads) == len({*downloads}) == 3  # config, weights and sums


def test_what_was_damaged_on_this_machine_is_fetched_again(models_dir: Path, bucket: str, tmp_path: Path) -> None:
    push(models_dir / "tiny", Blobs(bucket), "tiny")
    mirror = mirror_of(bucket, tmp_path)
    mirror.look()
    with (mirror.folder / "tiny/model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"????")
    with pytest.raises(CheckpointError):
        load_checkpoint(mirror.folder / "tiny")
    mirror_of(bucket, tmp_path).look()
    load_checkpoint(mirror.folder / "tiny")


def test_an_address_that_is_away_keeps_what_is_served_and_is_named_once(
    models_dir: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    push(models_dir / "tiny", Blobs(bucket), "tiny")
    mirror = mirror_of(bucket, tmp_path)
    mirror.look()
    marks = Blobs.marks

    def away(self: Blobs, folder: PurePosixPath) -> dict[str, str | None]:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(Blobs, "marks", away)
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        mirror.look()
    assert mirror.trouble == "ConnectionError: nobody answers"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    started = mirror_of(bucket, tmp_path)
    started.follow()  # returns, for there is a model
    started.close()
    assert version_in(started.folder) == version_in(models_dir)
    monkeypatch.setattr(Blobs, "marks", marks)
    mirror.look()
    assert mirror.trouble is None


def test_models_that_were_copied_there_are_refused_with_what_to_do(
    models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / "address/tiny")
    (tmp_path / "address/config.json").write_text("{}")
    mirror = mirror_of(f"file://{tmp_path}/address", tmp_path)
    mirror.look()
    assert f"tiny: it has no manifest: put it there with `difuso push FOLDER file://{tmp_path}/address`" in caplog.text
    assert "config: config.json was not written by this `difuso push`" in caplog.text
    assert not read_catalog(mirror.folder).models


def test_nothing_at_an_address_writes_outside_its_folder(models_dir: Path, bucket: str, tmp_path: Path) -> None:
    blobs = Blobs(bucket)
    push(models_dir / "tiny", blobs, "tiny")
    manifest = blobs.read(blobs.root / "tiny.json").replace(b'"config.json"', b'"../config.json"')
    blobs.write(blobs.root / "tiny.json", manifest)
    blobs.write(blobs.root / "..tiny.json", manifest)
    mirror = mirror_of(bucket, tmp_path)
    mirror.look()
    assert not [path for path in mirror.folder.iterdir() if path.is_dir()]


def test_a_full_cache_loses_first_what_was_not_used_for_longest(models_dir: Path, bucket: str, tmp_path: Path) -> None:
    blobs, files = Blobs(bucket), tmp_path / "state/cache/files"
    push(models_dir / "tiny", blobs, "other")
    versions = [push(newer(models_dir, tmp_path / str(n), n / 50), blobs, "tiny") for n in range(1, 5)]
    weights = [each.files["model.safetensors"] for each in versions]
    mirror = mirror_of(bucket, tmp_path, cache_size=3 * weights[0].size + 100_000)
    for model in versions:
        blobs.write(blobs.root / "tiny.json", model.model_dump_json(exclude_none=True).encode())
        mirror.look()
    kept = [(files / each.sha256).exists() for each in weights]
    assert kept == [False, False, True, True], "beside that of `other`, there is room for two"
    assert read_catalog(mirror.folder).models.keys() == {"other", "tiny"}
    mirror = mirror_of(bucket, tmp_path, cache_size=1)
    blobs.write(blobs.root / "tiny.json", versions[0].model_dump_json(exclude_none=True).encode())
    mirror.look()
    assert [(files / each.sha256).exists() for each in weights] == [True, False, False, True]
    for name in ("other", "tiny"):
        load_checkpoint(mirror.folder / name)


def test_an_address_that_nobody_looks_at_any_more_is_given_up(models_dir: Path, tmp_path: Path) -> None:
    addresses = [f"memory://{tmp_path}/{name}" for name in ("one", "two")]
    for address in addresses:
        push(models_dir / "tiny", Blobs(address), "tiny")
    left = mirror_of(addresses[0], tmp_path)
    left.look()
    os.utime(left.folder, (0, 0))
    mirror_of(addresses[1], tmp_path).look()
    assert not left.folder.exists()


def test_a_damaged_folder_is_not_pushed(models_dir: Path, bucket: str, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tiny", tmp_path / "tiny")
    config = tmp_path / "tiny/config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(CheckpointError, match="damaged or edited"):
        push(tmp_path / "tiny", Blobs(bucket), "tiny")
    with pytest.raises(FileNotFoundError):
        Blobs(bucket).marks(Blobs(bucket).root)


def test_an_address_on_the_web_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be a folder, or the address of a bucket"):
        WorkerSettings(models_dir="https://example.org/models")


def test_processes_that_start_together_fetch_each_file_once(
    models_dir: Path, bucket: str, tmp_path: Path, downloads: list[str]
) -> None:
    push(models_dir / "tiny", Blobs(bucket), "tiny")
    started = [mirror_of(bucket, tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(len(started)) as pool:
        list(pool.map(Mirror.look, started))
    assert [mirror.trouble for mirror in started] == [None] * len(started)
    assert len(downloads) == len({*downloads})
    load_checkpoint(started[0].folder / "tiny")


@pytest.mark.parametrize("kind", [ApiSettings, WorkerSettings])
@pytest.mark.parametrize("path", ["pushed.json", "model.safetensors/x", "model.safetensors"])
def test_a_hostile_manifest_leaves_other_models_as_they_are(
    models_dir: Path, bucket: str, tmp_path: Path, kind: type[SharedSettings], path: str
) -> None:
    """It is fetched before the other model and after it, and again by a process that starts later."""
    blobs = Blobs(bucket)
    weights = push(models_dir / "tiny", blobs, "tiny").files["model.safetensors"]
    eight = hashlib.sha256(blobs.read(blobs.root / "files" / weights.sha256, 8)).hexdigest()
    for name in ("before", "zafter"):
        put(blobs, name, {path: weights.model_copy(update={"head": 8, "head_sha256": eight})})
    for _ in range(2):
        mirror = mirror_of(bucket, tmp_path, kind)
        mirror.look()
        assert version_in(mirror.folder) == version_in(models_dir)
        if kind is WorkerSettings:
            load_checkpoint(mirror.folder / "tiny")


@pytest.mark.parametrize("path", [".pushed.json", "../tiny/config.json", "/etc/passwd", "a/b/c"])
def test_a_manifest_names_no_file_of_others(path: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        PushedModel(version="0" * 64, pushed_at=1.0, files={path: PushedFile(size=1, sha256="0" * 64)})


@pytest.mark.parametrize("kind", [ApiSettings, WorkerSettings])
@pytest.mark.parametrize("size", [10, 1 << 62])
def test_a_file_of_another_size_is_not_fetched(
    models_dir: Path, bucket: str, tmp_path: Path, kind: type[SharedSettings], size: int, downloads: list[str]
) -> None:
    blobs = Blobs(bucket)
    weights = push(models_dir / "tiny", blobs, "tiny").files["model.safetensors"]
    blobs.delete(blobs.root / "tiny.json")
    put(blobs, "other", {"model.safetensors": weights.model_copy(update={"size": size})})
    mirror = mirror_of(bucket, tmp_path, kind)
    mirror.look()
    assert f"{weights.sha256} was damaged" in str(mirror.trouble)
    assert not downloads
    assert sum(path.stat().st_size for path in (tmp_path / "state/cache/files").iterdir()) == 0


def test_a_front_end_reads_no_head_that_no_model_has(models_dir: Path, bucket: str, tmp_path: Path) -> None:
    weights = push(models_dir / "tiny", Blobs(bucket), "tiny").files["model.safetensors"]
    with pytest.raises(ValidationError, match="less than or equal to"):
        PushedFile.model_validate(weights.model_dump() | {"head": 1 << 22})


def test_the_folder_of_an_address_that_is_not_mounted_keeps_what_is_here(models_dir: Path, tmp_path: Path) -> None:
    address = tmp_path / "address"
    push(models_dir / "tiny", Blobs(f"file://{address}"), "tiny")
    mirror = mirror_of(f"file://{address}", tmp_path)
    mirror.look()
    address.rename(tmp_path / "elsewhere")
    address.mkdir()
    mirror.look()
    assert "nothing lies there" in str(mirror.trouble)
    assert version_in(mirror.folder) == version_in(models_dir)


def test_folders_and_files_of_others_stay_in_the_cache(models_dir: Path, bucket: str, tmp_path: Path) -> None:
    theirs = [tmp_path / "state/cache" / each for each in ("apt/list", ".hidden-1/x", "files/photo", "files/0123.head")]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for path in theirs[:2]:
        os.utime(path.parent, (0, 0))
    push(models_dir / "tiny", Blobs(bucket), "tiny")
    mirror_of(bucket, tmp_path, cache_size=1).look()
    assert all(path.exists() for path in theirs)


def test_processes_that_share_a_small_cache_leave_each_other_what_they_fetch(
    models_dir: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A front end makes room while a worker has fetched a part of a model."""
    blobs, download = Blobs(bucket), Blobs.download
    push(models_dir / "tiny", blobs, "tiny")
    worker, front = mirror_of(bucket, tmp_path, cache_size=1), mirror_of(bucket, tmp_path, ApiSettings, cache_size=1)
    for mirror in (worker, front):
        mirror.look()
    pushed = push(newer(models_dir, tmp_path), blobs, "tiny")
    files = tmp_path / "state/cache/files"
    kept: list[set[str]] = []

    def downloading(self: Blobs, path: PurePosixPath, file: Path) -> None:
        download(self, path, file)
        if path.name == pushed.files["model.safetensors"].sha256:
            kept.append({each.name for each in files.iterdir()})
            push(newer(models_dir, tmp_path / "other", 0.1), blobs, "other")
            front.look()
            kept.append({each.name for each in files.iterdir()})

    monkeypatch.setattr(Blobs, "download", downloading)
    worker.look()
    before, after = kept
    assert before < after
    assert (worker.trouble, front.trouble) == (None, None)
    assert version_in(worker.folder) == version_in(front.folder) == pushed.version
    load_checkpoint(worker.folder / "tiny")


@pytest.mark.parametrize("name", ["0" * 64, f"{'0' * 64}.{'1' * 64}.head"])
def test_parts_that_nobody_fetches_any_more_make_room(models_dir: Path, bucket: str, tmp_path: Path, name: str) -> None:
    left = tmp_path / "state/cache/files" / f".{name}"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"?" * 4096)
    push(models_dir / "tiny", Blobs(bucket), "tiny")
    mirror_of(bucket, tmp_path, cache_size=1).look()
    assert not left.exists()


def test_an_address_that_hangs_is_a_trouble(
    models_dir: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(models_dir / "tiny", Blobs(bucket), "tiny")
    monkeypatch.setattr(mirrors, "SILENT_SECONDS", 0.05)
    for call in ("marks", "read", "size", "download"):
        answers, hangs = getattr(Blobs, call), threading.Event()
        with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
            patch.setattr(Blobs, call, lambda *given, on=hangs, then=answers: on.wait() and then(*given))
            mirror = mirror_of(bucket, tmp_path / call)
            look = pool.submit(mirror.look)
            try:
                wait_until(partial(_is_noticed, mirror), 10, f"a {call} that hangs is noticed")
            finally:
                hangs.set()
            look.result()
        assert mirror.trouble is None


def _is_noticed(mirror: Mirror) -> bool:
    return mirror.trouble is not None and mirror.trouble.endswith("does not answer")


@pytest.mark.parametrize("fault", ["too large", "away"])
def test_a_fault_of_shares_is_said_and_stops_nothing_else(
    models_dir: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(mirrors, "REST", 0)
    mirror, blobs, read = mirror_of(bucket, tmp_path, ApiSettings), Blobs(bucket), Blobs.read
    version = push(models_dir / "tiny", blobs, "tiny").version
    push(models_dir / "tiny", blobs, "other")
    for name in ("other", "tiny"):
        blobs.write(blobs.root / f"{name}.toml", text_of({version: 1}).encode())
    mirror.look()

    def failing(self: Blobs, path: PurePosixPath, most: int | None = None) -> bytes:
        if path.name == "other.toml":
            raise ConnectionError("reset")
        return read(self, path, most)

    blobs.write(blobs.root / "other.toml", b"#" * (1 << 20) + b"# too large" if fault == "too large" else b"")
    blobs.write(blobs.root / "tiny.toml", text_of({version: 2}).encode())
    push(models_dir / "tiny", blobs, "new")
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "read", failing if fault == "away" else read)
        mirror.look()
    assert mirror.trouble in ("other.toml must have at most 1048576 bytes", "ConnectionError: reset")
    found = read_catalog(mirror.folder)
    assert found.models.keys() == {"new", "other", "tiny"}
    assert found.shares == {"other": {version: 1}, "tiny": {version: 2}}
    blobs.write(blobs.root / "other.toml", text_of({version: 3}).encode())
    mirror.look()
    assert mirror.trouble is None
    assert read_catalog(mirror.folder).shares["other"] == {version: 3}


def test_a_folder_that_is_replaced_while_it_is_pushed_changes_nothing_at_the_address(
    models_dir: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a training does with the folder that it publishes; another model has the same files."""
    blobs, new, upload = Blobs(address), newer(models_dir, tmp_path), Blobs.upload
    shutil.copytree(models_dir / "tiny", folder := tmp_path / "mine")
    first = push(folder, blobs, "stable")

    def replaced(self: Blobs, path: PurePosixPath, file: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(new, folder)
        upload(self, path, file)

    monkeypatch.setattr(Blobs, "upload", replaced)
    (folder / "README.md").write_text("A model.")
    assert push(folder, blobs, "mine").version == first.version
    mirror = mirror_of(address, tmp_path)
    mirror.look()
    assert mirror.trouble is None
    for name in ("mine", "stable"):
        assert load_checkpoint(mirror.folder / name).version == first.version


def test_what_lies_at_the_address_is_not_sent_again(
    models_dir: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(models_dir / "tiny", Blobs(address), "tiny")
    monkeypatch.setattr(Blobs, "upload", None)
    push(models_dir / "tiny", Blobs(address), "tiny@same")


def test_the_size_of_the_cache_may_have_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFUSO_CACHE_SIZE", "20GB")
    assert WorkerSettings().cache_size == 20 * 10**9
