"""A model whose files cannot be read at the moment is read again, unlike one whose files are wrong."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import safetensors.torch

from difuso.jobs.catalog import CatalogFollower, read_catalog
from difuso.model import load_checkpoint
from difuso.model.errors import may_pass, reason_of
from difuso.model.formats.diffusers.pipeline import write_diffusers

Read = TypeVar("Read")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=["ours", "diffusers", "diffusers without sums"])
def models(request: pytest.FixtureRequest, models_dir: Path, tmp_path: Path) -> Path:
    """A models folder with one model, `tiny`."""
    if request.param == "ours":
        shutil.copytree(models_dir / "tiny", tmp_path / "tiny")
        return tmp_path
    tiny = load_checkpoint(models_dir / "tiny")
    write_diffusers(tmp_path / "tiny", tiny.config, tiny.network)
    if request.param == "diffusers without sums":
        (tmp_path / "tiny" / "SHA256SUMS").unlink()
    return tmp_path


@contextmanager
def failing_disk(fails: Callable[[Path], bool], number: int) -> Iterator[None]:
    """A disk that fails where `fails` says so of a path that is looked up, opened or mapped."""

    def guarded(call: Callable[..., Any], vague: bool = False) -> Callable[..., Any]:
        def guard(path: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(path, Path) and fails(path):
                raise FileNotFoundError("No such file") if vague else OSError(number, os.strerror(number), path)
            return call(path, *arguments, **options)

        return guard

    with pytest.MonkeyPatch.context() as patched:
        for name in ("open", "stat"):
            patched.setattr(Path, name, guarded(getattr(Path, name)))
        # safetensors says of every failure to open that there is no such file
        patched.setattr("difuso.model.folders.folder.load_file", guarded(safetensors.torch.load_file, vague=True))
        yield


def each_failure(model: Path, read: Callable[[], Read], number: int) -> Iterator[Read]:
    """Lets the first operation on a file of the model fail, then the second instead, and so on; yields what is read."""
    asked: list[Path] = []

    def fails(path: Path) -> bool:
        asked.extend([path] if model in path.parents else [])
        return len(asked) == nth and asked[-1] == path

    for nth in range(1, 100):
        asked.clear()
        with failing_disk(fails, number):
            outcome = read()
        if len(asked) < nth:
            return
        yield outcome
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    "number",
    [errno.EIO, *(pytest.param(each, marks=pytest.mark.slow) for each in (errno.ESTALE, errno.EMFILE, errno.EACCES))],
    ids=errno.errorcode.get,
)
def test_wherever_the_disk_fails_a_worker_may_try_again(models: Path, number: int) -> None:
    def read() -> object:
        try:
            return load_checkpoint(models / "tiny")
        except Exception as error:
            return error

    outcomes = list(each_failure(models / "tiny", read, number))
    assert len(outcomes) > 5
    for outcome in outcomes:
        assert isinstance(outcome, Exception)
        assert may_pass(outcome), outcome
        assert reason_of(outcome).endswith((f" cannot be read: {os.strerror(number)}", "(FileNotFoundError)"))


def test_wherever_the_disk_fails_a_front_end_may_try_again(models: Path) -> None:
    outcomes = [
        (catalog.refused, catalog.may_improve)
        for catalog in each_failure(models / "tiny", lambda: read_catalog(models), errno.EIO)
    ]
    assert len(outcomes) > 5
    for refused, may_improve in outcomes:
        assert may_improve
        assert refused["tiny"].endswith(" cannot be read: Input/output error")


def test_a_front_end_keeps_what_it_knows_until_it_can_read_again(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be opened for a while: one folder is new then, one has changed, and one is as it was."""

    def no_more_files(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files", str(arguments[0]))

    for name in ("changed", "untouched"):
        shutil.copytree(models_dir / "tiny", tmp_path / name)
    follower = CatalogFollower(tmp_path)
    known = follower.catalog.models
    shutil.copytree(models_dir / "tiny", tmp_path / "new")
    (tmp_path / "changed" / "config.json").write_text("{}")
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", no_more_files)
        assert [follower.look() for _ in range(4)] == [False, True, True, True]
    assert follower.catalog.models == known
    assert follower.catalog.refused == {"new": "config.json cannot be read: Too many open files"}
    assert {record.getMessage().split()[1] for record in caplog.records} == {"changed", "untouched"}
    assert [follower.look(), follower.look()] == [True, False]
    assert set(follower.catalog.models) == {"new", "untouched", "changed"}  # workers still draw what it held before
    assert follower.catalog.models["changed"] == known["changed"]
    assert set(follower.catalog.refused) == {"changed"}
