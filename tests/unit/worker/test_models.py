"""A worker serves the first model while the others load, and a job waits for a model that is still to come."""

from __future__ import annotations

import errno
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pydantic import ByteSize

from difuso.jobs.contract import TASK
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.store.result_store import ResultStore
from difuso.model import Checkpoint, load_checkpoint, save_checkpoint
from difuso.model.folders.files import model_of
from difuso.worker.engine import models as models_of_a_worker
from difuso.worker.engine.held_jobs import Claim
from difuso.worker.engine.models import ModelFollower
from difuso.worker.engine.served_models import Models
from difuso.worker.queue.job_reading import ModelIsLoading
from difuso.worker.queue.reader_threads import JobRead, JobReaders
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import Runner
from tests.waiting import wait_until

from .test_tasks import make_job


@pytest.fixture
def settings(models_dir: Path, tmp_path: Path) -> WorkerSettings:
    """Three copies of one model: a, b and c."""
    for name in "abc":
        shutil.copytree(models_dir / "tiny", tmp_path / name)
    return WorkerSettings(models_dir=tmp_path, slots=1, device="cpu")


def test_only_a_folder_that_is_meant_to_be_a_model_is_refused_aloud(
    settings: WorkerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("sheets", "broken"):
        (settings.models_dirs[0] / name).mkdir()
    (settings.models_dirs[0] / "broken" / "config.json").write_text("{}")
    follower = following(settings)
    follower.load_all()
    assert follower.models.refused.keys() == {"sheets", "broken"}
    loud = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert [line.split()[1] for line in loud] == ["broken"]


def names(models: Models) -> set[str]:
    return {ref.partition("@")[0] for ref in models.runners}


def runner_of(models: Models, name: str) -> Runner:
    return models.runners[ref_in(models, name)]


def ref_in(models: Models, folder: str) -> str:
    ref = models.folders[folder].ref
    assert ref is not None
    return ref


def following(settings: WorkerSettings) -> ModelFollower:
    """A follower that has loaded the first model."""
    follower = ModelFollower(settings)
    follower.load_first()
    return follower


def look(follower: ModelFollower) -> set[str]:
    follower.load_all()
    return names(follower.models)


def test_a_worker_of_some_models_loads_these_in_all_versions_and_one_of_none_leaves_pools(
    settings: WorkerSettings, models_dir: Path
) -> None:
    shutil.copytree(models_dir / "tiny", settings.models_dirs[0] / "b@later")
    for facts, wanted in (({"models": {"a", "b"}}, {"a", "b", "b@later"}), ({"pools": {"b"}}, {"a", "c"})):
        follower = following(settings.model_copy(update=facts))
        follower.load_all()
        assert follower.models.folders.keys() == follower.models.seen.keys() == wanted


def test_a_worker_awaits_its_models_and_says_so(
    settings: WorkerSettings, models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def pause(seconds: float) -> None:
        path = settings.models_dirs[0] / "later"
        if not path.exists():
            shutil.copytree(models_dir / "tiny", path)

    monkeypatch.setattr("difuso.worker.engine.models.time.sleep", pause)
    follower = following(settings.model_copy(update={"models": frozenset({"later"})}))
    assert names(follower.models) == {"later"}
    assert "there is no folder of the model later, which DIFUSO_MODELS names" in caplog.text


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were loaded, or tried."""
    tried = []

    def load(folder: Path, **_: Any) -> Checkpoint:
        tried.append(folder.name)
        return load_checkpoint(folder)

    monkeypatch.setattr(models_of_a_worker, "load_checkpoint", load)
    return tried


def test_the_default_model_is_loaded_first(settings: WorkerSettings) -> None:
    assert names(following(settings).models) == {"a"}
    chosen = settings.model_copy(update={"default_model": "b"})
    assert names(following(chosen).models) == {"b"}


def test_the_first_that_can_be_loaded_is_served_first(settings: WorkerSettings) -> None:
    (settings.models_dirs[0] / "a" / "config.json").write_text("{}")
    models = following(settings).models
    assert (names(models), set(models.refused)) == ({"b"}, {"a"})


def test_models_that_were_trained_here_are_loaded_after_the_others(settings: WorkerSettings, tmp_path: Path) -> None:
    (trained := tmp_path / "of trainers").mkdir()
    for name in "abc":
        shutil.move(settings.models_dirs[0] / name, trained / {"a": "z", "b": "0", "c": "c"}[name])
    shutil.copytree(trained / "z", settings.models_dirs[0] / "z")
    (trained / "z" / "config.json").write_text("{}")
    follower = following(settings.model_copy(update={"trained_dir": trained}))
    assert names(follower.models) == {"z"}, "though 0 is the first by name"
    assert look(follower) == {"z", "0", "c"}
    assert not follower.models.refused


def test_a_folder_that_is_passed_over_is_reported(settings: WorkerSettings, caplog: pytest.LogCaptureFixture) -> None:
    for name in "abc":
        (settings.models_dirs[0] / name).rename(settings.models_dirs[0] / name.upper())
    assert not following(settings).models.runners
    assert f"the folder {settings.models_dirs[0] / 'A'} is passed over: the name of a model has at most" in caplog.text


def test_the_others_come_one_by_one(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load(folder: Path, **_: Any) -> Checkpoint:
        seen.append((folder.name, names(follower.models), follower.models.coming))
        return load_checkpoint(folder)

    follower = following(settings)
    monkeypatch.setattr(models_of_a_worker, "load_checkpoint", load)
    assert follower.models.coming == {"b", "c"}
    assert look(follower) == {"a", "b", "c"}
    assert seen == [("b", {"a"}, {"b", "c"}), ("c", {"a", "b"}, {"c"})]


def test_a_worker_that_ends_loads_no_further_model(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(folder: Path, **_: Any) -> Checkpoint:
        follower.close()
        return load_checkpoint(folder)

    follower = following(settings)
    monkeypatch.setattr(models_of_a_worker, "load_checkpoint", load)
    assert look(follower) == {"a", "b"}


def test_models_are_warmed_up_between_jobs(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture in the first minute does not share its cores with them."""
    monkeypatch.setattr(models_of_a_worker, "GIVE_WAY_SECONDS", 600)
    follower = following(settings)
    idle = threading.Event()
    follower.has_jobs = lambda: not idle.is_set()
    follower.look()
    assert names(follower.models) == {"a"}
    idle.set()
    wait_until(lambda: names(follower.models) == {"a", "b", "c"}, 60, "the others are warm")
    follower.close()


def test_models_are_warmed_up_beside_jobs_that_never_end(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_of_a_worker, "GIVE_WAY_SECONDS", 0.01)
    follower = following(settings)
    follower.has_jobs = lambda: True
    assert look(follower) == {"a", "b", "c"}


def test_a_new_folder_is_loaded_once_it_rests(settings: WorkerSettings, models_dir: Path) -> None:
    follower = following(settings)
    assert look(follower) == {"a", "b", "c"}
    runners = follower.models.runners
    shutil.copytree(models_dir / "tiny", settings.models_dirs[0] / "d")
    assert look(follower) == {"a", "b", "c"}
    assert look(follower) == {"a", "b", "c", "d"}
    assert all(follower.models.runners[name] is runner for name, runner in runners.items())


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.ESTALE, "Stale file handle"), MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")],
    ids=lambda fault: type(fault).__name__,
)
def test_a_version_that_cannot_be_loaded_at_the_moment_is_tried_again(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    """The version before it is served until then, and the log says so once."""
    monkeypatch.setattr(models_of_a_worker, "REST", 0)
    follower = following(settings)
    look(follower)
    served, opened = follower.models.runners, Path.open

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.parent.name == "a":
            raise fault
        return opened(path, *arguments, **options)

    os.utime(settings.models_dirs[0] / "a" / "config.json")
    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", failing)
        assert [look(follower) for _ in range(4)] == [{"a", "b", "c"}] * 4
    assert follower.models.runners == served
    assert set(follower.models.refused) == {"a"}
    assert caplog.text.count("model a is refused for now") == 1
    look(follower)
    assert follower.models.runners != served
    assert follower.models.refused == {}


@pytest.mark.parametrize("bound", [None, ByteSize(1 << 40)])
def test_a_folder_that_was_away_just_while_it_was_loaded_is_tried_again(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, bound: ByteSize | None
) -> None:
    monkeypatch.setattr(models_of_a_worker, "REST", 0)
    follower = following(settings.model_copy(update={"models_memory": bound}))

    def away(folder: Path, **_: Any) -> Checkpoint:
        folder.rename(folder.with_name(".aside"))
        try:
            return load_checkpoint(folder)
        finally:
            folder.with_name(".aside").rename(folder)

    loadable = [*follower.models.loadable]
    with monkeypatch.context() as patch:
        patch.setattr(models_of_a_worker, "load_checkpoint", away)
        follower.load_all()
        for ref in loadable:
            follower.load(ref)
            follower._pool.submit(int).result()
        assert follower.models.refused.keys() == {"b", "c"}
        assert {each.reason for each in follower.models.refused.values()} == {"there is no such folder"}
    follower.load_all()
    assert not follower.models.refused
    assert {*names(follower.models), *map(model_of, follower.models.loadable)} == {"a", "b", "c"}


def test_a_models_folder_that_fails_while_a_model_is_loaded_for_jobs_ends_nothing(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    follower = following(settings.model_copy(update={"models_memory": ByteSize(1 << 40)}))
    ref = next(iter(follower.models.loadable))

    def failing(*folders: Path) -> list[Path]:
        raise OSError(errno.ESTALE, "Stale file handle")

    def load() -> None:
        follower.load(ref)
        wait_until(lambda: not follower.is_busy, 60, "it was tried")
        follower.look()
        wait_until(lambda: not follower.is_busy, 60, "the next look, which raises what the last raised, is over")

    with monkeypatch.context() as disk:
        disk.setattr(models_of_a_worker, "model_folders", failing)
        load()
    assert "the models folder cannot be read: Stale file handle" in caplog.text
    assert ref not in follower.models.runners
    load()
    assert ref in follower.models.runners
    follower.close()


def test_a_folder_with_wrong_content_is_loaded_once(settings: WorkerSettings, loaded: list[str]) -> None:
    (settings.models_dirs[0] / "b" / "config.json").write_text("{}")
    follower = following(settings)
    assert [look(follower) for _ in range(3)] == [{"a", "c"}] * 3
    assert loaded == ["a", "b", "c"]


def test_a_try_that_took_long_is_not_repeated_soon(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model for which the card has no room must not take time and memory from the others at each look."""
    tried = []

    def load(folder: Path, **_: Any) -> Checkpoint:
        if folder.name == "b":
            tried.append(time.monotonic())
            time.sleep(0.1)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return load_checkpoint(folder)

    monkeypatch.setattr(models_of_a_worker, "load_checkpoint", load)
    follower = following(settings)
    wait_until(lambda: look(follower) and len(tried) == 2, 30, "b is tried again")
    assert tried[1] - tried[0] > 10 * 0.1
    assert follower.models.coming == set(), "a job that needs it does not wait here"


class Reading:
    """The readers of a worker that has loaded `a`, with one job whose model is given."""

    def __init__(self, models: Models, store: ResultStore, model: str) -> None:
        version = next(iter(models.runners.values())).checkpoint.version  # all are copies of one model
        job = make_job(Generation(), steps=3).model_copy(update={"model": model, "versions": (version,)})
        call = {"job": job.model_dump(mode="json")}
        record = SimpleNamespace(
            id=job.id, function=TASK, is_fresh=True, put_off_at=0.0, put_offs=0, versions=(), timeout=60, arguments=call
        )
        self.claim = Claim(cast(Any, record), "one")
        self.events: queue.SimpleQueue[JobRead] = queue.SimpleQueue()
        self.refused: list[Exception] = []
        self.handed_back: list[Any] = []
        rq = SimpleNamespace(
            retry_until_deadline=lambda call: call(),
            connection=SimpleNamespace(exists=lambda key: 0),
            hand_back=lambda claim, *, at_front: self.handed_back.append((claim, at_front)),
        )
        outcomes = SimpleNamespace(refuse=lambda claim, error: self.refused.append(error))
        self.readers = JobReaders(
            *(cast(Any, rq), cast(Any, outcomes), store, models, self._hear),
            bind=lambda job, models: None,
            store_wait=60,
        )
        self.readers.read(self.claim)

    def _hear(self, events: Sequence[JobRead]) -> None:
        for event in events:
            self.events.put(event)


@pytest.fixture
def reading(settings: WorkerSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Reading]]:
    made: list[Reading] = []

    def make(models: Models, model: str) -> Reading:
        made.append(Reading(models, ResultStore(str(tmp_path_factory.mktemp("store"))), model))
        return made[-1]

    yield make
    for each in made:
        each.readers.close()


def test_a_job_waits_for_a_model_that_is_to_come(settings: WorkerSettings, reading: Callable[..., Reading]) -> None:
    follower = following(settings)
    begun = reading(follower.models, "b")
    first = begun.events.get(timeout=60)
    assert isinstance(first.error, ModelIsLoading)
    assert begun.readers.take(first) is None
    assert begun.readers.claims == [begun.claim]  # it is held, and kept alive
    follower.load_all()
    begun.readers.serve(follower.models)
    active = begun.readers.take(begun.events.get(timeout=60))
    assert active is not None
    assert active.runner is runner_of(follower.models, "b")
    assert (begun.readers.claims, begun.refused) == ([], [])


def test_a_model_may_come_while_its_job_is_being_read(
    settings: WorkerSettings, reading: Callable[..., Reading]
) -> None:
    follower = following(settings)
    begun = reading(follower.models, "b")
    first = begun.events.get(timeout=60)
    follower.load_all()
    begun.readers.serve(follower.models)
    assert begun.readers.take(first) is None
    assert begun.readers.take(begun.events.get(timeout=60)) is not None


def test_a_job_of_a_model_that_is_refused_or_unknown_goes_back(
    settings: WorkerSettings, reading: Callable[..., Reading]
) -> None:
    (settings.models_dirs[0] / "b" / "config.json").write_text("{}")
    follower = following(settings)
    unknown = reading(follower.models, "z")
    assert unknown.readers.take(unknown.events.get(timeout=60)) is None
    refused = reading(follower.models, "b")
    assert refused.readers.take(refused.events.get(timeout=60)) is None
    follower.load_all()
    refused.readers.serve(follower.models)
    assert refused.readers.take(refused.events.get(timeout=60)) is None
    for each in (unknown, refused):
        assert each.handed_back == [(each.claim, False)], "another worker may hold its version"
        assert (each.refused, each.readers.claims) == ([], [])


def new_version(folder: Path, name: str) -> str:
    checkpoint = load_checkpoint(folder / "a")
    checkpoint.network.requires_grad_(False).get_parameter("conv_out.bias").add_(0.5)
    save_checkpoint(folder / name, checkpoint.config, checkpoint.network)
    return load_checkpoint(folder / name).version


def test_the_version_of_before_stays_until_it_is_let_go(settings: WorkerSettings) -> None:
    follower = following(settings)
    follower.load_all()
    before = ref_in(follower.models, "a")
    version = new_version(settings.models_dirs[0], "a")
    follower.load_all()
    follower.load_all()
    models = follower.models
    assert models.newest("a") == ref_in(models, "a") == f"a@{version[:12]}" != before
    assert models.superseded == {before}
    assert {before, ref_in(models, "a")} <= models.runners.keys()
    follower.forget([before])
    assert before not in follower.models.runners
    assert follower.models.superseded == set()


def test_a_folder_that_was_renamed_is_not_loaded_again(settings: WorkerSettings, loaded: list[str]) -> None:
    """As when the previous version is kept beside the new one."""
    follower = following(settings)
    follower.load_all()
    old = runner_of(follower.models, "a")
    loaded.clear()
    new_version(settings.models_dirs[0], ".fresh")
    (settings.models_dirs[0] / "a").rename(settings.models_dirs[0] / "a@before")
    (settings.models_dirs[0] / ".fresh").rename(settings.models_dirs[0] / "a")
    follower.load_all()
    follower.load_all()
    assert loaded == ["a"]
    assert runner_of(follower.models, "a@before") is old is not runner_of(follower.models, "a")
    assert follower.models.superseded == set()
    assert follower.models.newest("a") == ref_in(follower.models, "a")


def test_a_tagged_version_goes_with_its_folder_and_the_last_version_of_a_model_stays(settings: WorkerSettings) -> None:
    new_version(settings.models_dirs[0], "a@other")
    follower = following(settings)
    follower.load_all()
    tagged = ref_in(follower.models, "a@other")
    shutil.rmtree(settings.models_dirs[0] / "a@other")
    shutil.rmtree(settings.models_dirs[0] / "b")
    follower.load_all()
    assert follower.models.superseded == {tagged}
    assert follower.models.newest("b") == ref_in(follower.models, "b")
