"""Faults in the middle of an attempt at a training: its run is acted, while Redis and the store are real."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from difuso.jobs.trainings.datasets import Datasets
from difuso.jobs.trainings.records import Claim, Order, State, TrainingNotFound, Trainings
from difuso.jobs.trainings.scripts import DUE, NAMES, RECORD
from difuso.jobs.trainings.states import TrainingFiles
from difuso.trainer import attempt
from difuso.trainer.attempt import Attempt, Trainer
from difuso.trainer.deletion import delete
from tests.icons import write_icons
from tests.training_lab import ordered, write_dataset

STEPS = 1000


class Killed(BaseException):
    """The process of the trainer is gone."""


class Cut(Trainings):
    """Trainings of a trainer to which things happen `before` it reports: Redis is away, or it is killed."""

    before: Callable[[Collection[str]], object]

    def report(self, claim: Claim, state: State = "running", **fields: object) -> str:
        self.before(fields)
        return super().report(claim, state, **fields)


def here(_: object) -> None:
    """Redis answers."""


def away(_: object) -> None:
    raise redis.ConnectionError


class Actor:
    """A trainer whose runs are acted: at each look at one the next scene is played; after the last the trainer ends."""

    def __init__(self, client: redis.Redis, top: Path) -> None:
        self.trainings, self.client = Cut(client), client
        self.trainings.before = here
        self.store, self.trained = top / "store", top / "trained"
        self.folder = top / f"machine{len([*top.glob('machine*')])}"
        self.folder.mkdir()
        self.at_sigterm: Callable[[], None] = lambda: None
        self._is_stopping = False
        store = str(self.store)
        children: Any = self
        self.trainer = Trainer(
            self.trainings, Datasets(store), TrainingFiles(store), children, self.trained, "cpu", self._stops
        )

    def act(self, *scenes: Callable[[], object]) -> None:
        """Takes a training and attempts it."""
        self._scenes, claim = iter(scenes), self.trainings.claim()
        assert claim is not None
        Attempt(self.trainer, claim).run()

    def save(self, step: int) -> None:
        """Saves as a run does."""
        run, (name,) = self._run, self._run.parent.glob("*.zip")
        (run / "model").mkdir(exist_ok=True)
        recipe = {"max_steps": STEPS, "batch_size": 4, "learning_rate": 1, "data": {"path": str(name)}}
        texts = {"recipe.json": json.dumps(recipe), "recipe.toml": "", "metrics.jsonl": "", "state.pt": str(step)}
        for file, text in texts.items():
            (run / file).write_text(text)
        (run / "model/config.json").write_text(json.dumps({"training": {"steps": step}}))
        os.utime(run / "state.pt", ns=(step, step))

    def lose_lease(self) -> None:
        """Is cut off for so long that another may take the training."""
        self.trainings.before = away
        due: Any = self.client.zrange(DUE, 0, -1)
        self.client.zadd(DUE, dict.fromkeys(due, 1))

    def restored(self) -> str | None:
        state = self._run / "state.pt"
        return state.read_text() if state.exists() else None

    def named(self) -> tuple[str, set[str]]:
        """Returns the state that the record of the only training names, and those in the store."""
        (training,) = self.trainings.all()
        states = self.store / "trainings" / training.id / "states"
        saved: Any = self.client.hget(RECORD + training.id, "saved")
        return saved.decode(), {path.name for path in states.iterdir()}

    def _stops(self) -> bool:
        return self._is_stopping

    # As its child processes:

    def spawn(self, command: list[str], *, folder: Path, **more: object) -> Actor:
        self._run, self.returncode = folder / "run", None
        return self

    # As the process of a run:

    returncode: int | None = None

    def poll(self) -> int | None:
        if (scene := next(self._scenes, None)) is not None:
            scene()
        elif self.returncode is None:
            self._is_stopping = True
        return self.returncode

    def terminate(self) -> None:
        self.at_sigterm()
        self.returncode = 0

    def wait(self, timeout: float | None = None) -> None:
        pass

    kill = wait


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def actors(client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Actor, Actor]:
    monkeypatch.setattr(attempt, "TICK_SECONDS", 0.01)
    write_dataset(str(tmp_path / "store"), write_icons(tmp_path / "icons.zip"))
    return Actor(client, tmp_path), Actor(client, tmp_path)


def served(actor: Actor, name: str = "cats") -> int | None:
    config = actor.trained / name / "config.json"
    return json.loads(config.read_text())["training"]["steps"] if config.exists() else None


def away_at_saves(fields: Collection[str]) -> None:
    if "saved" in fields:
        raise redis.ConnectionError


@pytest.mark.parametrize("trouble", [away, away_at_saves])
def test_the_state_that_a_record_names_is_there_while_redis_is_away_and_the_last_is_named_when_it_is_back(
    actors: tuple[Actor, Actor], trouble: Callable[[Collection[str]], None]
) -> None:
    first, second = actors
    ordered(first.trainings)

    def go(before: Callable[[Collection[str]], object]) -> None:
        first.trainings.before = before

    def there() -> None:
        named, stored = first.named()
        assert named in stored

    def both() -> None:
        assert first.named() == ("1-40", {"1-20", "1-40"})

    saves = [lambda step=step: first.save(step) for step in (10, 20, 30, 40)]
    first.act(*saves[:2], lambda: go(trouble), *saves[2:], there, lambda: go(here), there, both)
    found: list[str | None] = []
    second.act(lambda: found.append(second.restored()))
    assert found == ["40"]


def test_a_training_whose_state_is_gone_begins_anew_and_the_log_says_so(
    actors: tuple[Actor, Actor], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = actors
    order = ordered(first.trainings)
    first.act(lambda: first.save(20))
    (first.store / "trainings" / order.id / "states/1-20/recipe.toml").unlink()
    found: list[str | None] = []
    second.act(lambda: found.append(second.restored()), lambda: second.save(10))
    assert found == [None]
    assert "the state 1-20 of training cats is gone: it begins anew" in caplog.text
    assert second.trainings.get(order.id).state == "queued"
    assert second.named()[0] == "3-10"


@pytest.mark.parametrize("is_of_another", [False, True])
def test_a_trainer_that_is_cut_off_takes_nothing_from_its_successor(
    actors: tuple[Actor, Actor], *, is_of_another: bool
) -> None:
    first, second = actors
    order = ordered(first.trainings)
    seen: list[tuple[str, set[str]]] = []

    def succeed() -> None:
        first.lose_lease()
        if is_of_another:
            assert second.trainings.ask(order.id, "delete")
            claim = second.trainings.claim("delete")
            assert claim is not None
            delete(second.trainer, claim)
            ordered(second.trainings)  # of the same name
        second.act(lambda: second.save(900))
        seen.append(second.named())

    first.act(
        lambda: first.save(10), succeed, lambda: first.save(200), lambda: setattr(first.trainings, "before", here)
    )
    assert served(second) == 900
    assert second.named() == seen[0]
    (training,) = second.trainings.all()
    assert training.progress.served == 900


def test_a_model_is_not_published_after_a_silence(actors: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a trainer that is cut off while it copies."""
    actor, _ = actors
    order = ordered(actor.trainings)
    monkeypatch.setattr(attempt, "LEASE_SECONDS", 0, raising=False)
    actor.act(lambda: actor.save(200))
    assert served(actor) is None
    assert actor.trainings.get(order.id).state == "running", "until another trainer takes it"


def test_a_model_is_deleted_whose_trainer_died_as_it_had_published_it(
    actors: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = actors
    order = ordered(first.trainings)

    def die(_: object) -> None:
        if served(first) is not None:
            raise Killed

    first.trainings.before = die
    monkeypatch.setattr(attempt, "TICK_SECONDS", 10)  # no report while it copies
    with pytest.raises(Killed):
        first.act(lambda: first.save(200))
    assert served(first) == 200
    first.lose_lease()
    assert second.trainings.ask(order.id, "delete")
    claim = second.trainings.claim("delete")
    assert claim is not None
    delete(second.trainer, claim)
    assert not [*second.trained.iterdir()]
    assert not second.client.exists(NAMES)
    with pytest.raises(TrainingNotFound):
        second.trainings.ask(order.id, "stop")


def test_a_pause_while_redis_is_away_keeps_the_last_step(actors: tuple[Actor, Actor]) -> None:
    actor, _ = actors
    order: Order = ordered(actor.trainings)

    def save_and_cut() -> None:
        actor.save(40)
        back_at = time.monotonic() + 0.5
        actor.trainings.before = lambda _: away(_) if time.monotonic() < back_at else None

    actor.at_sigterm = save_and_cut
    actor.act(lambda: actor.save(20), lambda: actor.trainings.ask(order.id, "pause"))
    assert actor.trainings.get(order.id).state == "paused"
    assert actor.named()[0] == "1-40"
    assert served(actor) == 40
