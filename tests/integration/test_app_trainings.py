"""Trainings over HTTP: who may order and see them, what is refused, and their events. A trainer is acted by hand."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from typer.testing import CliRunner

from difuso import Client, cli
from difuso.app import main
from difuso.app.settings import ApiSettings
from difuso.client import InvalidRequest, NotFound
from difuso.errors import UserError
from difuso.jobs.trainings.records import Claim, Progress, State, Trainings
from difuso.jobs.trainings.scripts import RECORD
from difuso.jobs.trainings.states import SHEETS, TrainingFiles
from tests.app_server import ALICE, BOB, CAROL, OPERATOR, running, training_keys_file
from tests.icons import SHAPES, icon, icons, png, write_icons, zipped
from tests.waiting import wait_until


@pytest.fixture
def settings(settings: ApiSettings, folder: Path) -> ApiSettings:
    keys = training_keys_file(folder)
    return settings.model_copy(update={"training": True, "api_keys_file": keys})


@pytest.fixture
def trainings(redis_url: str) -> Iterator[Trainings]:
    with redis.Redis.from_url(redis_url) as client:
        yield Trainings(client)


@pytest.fixture(autouse=True)
def _dataset(api: httpx.Client) -> None:
    if api.get("/datasets/shapes", headers=ALICE).status_code == 404:
        sent = {"files": [("images", ("mine.zip", zipped(icons())))], "data": {"name": "shapes"}}
        assert api.post("/datasets", headers=ALICE, **sent).status_code == 201  # type: ignore[arg-type]


def train(api: httpx.Client, headers: dict[str, str] = ALICE, **changes: Any) -> httpx.Response:
    return api.post("/trainings", headers=headers, json={"dataset": "shapes", "name": "mine", **changes})


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def claimed(trainings: Trainings) -> Claim:
    claim = trainings.claim()
    assert claim is not None
    return claim


def test_a_training_is_queued_and_shown_as_far_as_it_is(api: httpx.Client, trainings: Trainings, folder: Path) -> None:
    answer = train(api, preset={"preset": "taste", "image_size": 48, "learning_rate": 0.002}, minutes=3)
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/trainings/{made['id']}"
    assert made["state"] == "queued"
    assert "remembers" in made["advice"]
    claim = claimed(trainings)
    assert claim.training.changes == ("image_size=48", "learning_rate=0.002")
    assert (claim.training.preset, claim.training.minutes, claim.training.owner) == ("taste", 3, "alice")
    sheet = folder / "sheet.png"
    sheet.write_bytes(png(icon("circle", 1)))
    for kind in SHEETS:
        TrainingFiles(str(folder / "store")).add_sheet(made["id"], kind, 20, sheet)
    assert not made["progress"].keys() & {"held_out", "copies"}
    progress = Progress(step=20, steps=80, images=640, loss=0.1, seconds_left=(3, 5), sheets=(20,), served=20)
    progress = progress.model_copy(update={"nearest": (20,), "copies": 0.25, "held_out": ((10, 0.2), (20, 0.1))})
    trainings.report(claim, progress=progress.model_dump_json(), recipe="name = 1", log="step 20")
    shown = api.get(f"/trainings/{made['id']}", headers=ALICE).json()
    assert (shown["state"], shown["progress"]["seconds_left"], shown["recipe"]) == ("running", [3, 5], "name = 1")
    assert not shown.keys() & {"asked", "saved", "deaths", "fence"}
    assert api.get(shown["sheets"][0], headers=ALICE).content == sheet.read_bytes()
    assert api.get(shown["sheets"][0].replace("20", "21"), headers=ALICE).status_code == 404
    assert (shown["progress"]["held_out"], shown["progress"]["copies"]) == ([[10, 0.2], [20, 0.1]], 0.25)
    assert shown["nearest"] == [f"/trainings/{made['id']}/nearest/20"]
    assert api.get(shown["nearest"][0], headers=ALICE).content == sheet.read_bytes()
    assert problem(api.get(shown["nearest"][0], headers=CAROL)) == (404, "training-not-found")
    assert api.get("/trainings", headers=ALICE).json() == {"trainings": [shown | {"recipe": "", "log": ""}]}


def test_metrics_count_the_trainings_that_need_a_trainer(api: httpx.Client, trainings: Trainings) -> None:
    def counts() -> dict[str, float]:
        text = api.get("/metrics", headers=OPERATOR).text
        return {
            state: float(n) for state, n in re.findall(r'^difuso_trainings\{state="(\w+)"\} (\S+)$', text, re.MULTILINE)
        }

    none = dict.fromkeys(("queued", "running", "paused", "succeeded", "stopped", "failed", "deleting"), 0)
    assert counts() == none
    made = [train(api, name=f"model{number}").json()["id"] for number in range(3)]
    claimed(trainings)
    api.post(f"/trainings/{made[1]}/pause", headers=ALICE)
    assert counts() == none | {"queued": 1, "running": 1, "paused": 1}
    api.delete(f"/trainings/{made[1]}", headers=ALICE)
    assert counts() == none | {"queued": 1, "running": 1, "deleting": 1}


def test_trainings_are_private_and_need_the_right(api: httpx.Client) -> None:
    assert problem(train(api, BOB)) == (403, "not-allowed")
    assert problem(train(api, CAROL)) == (404, "dataset-not-found")
    path = f"/trainings/{train(api).json()['id']}"
    assert problem(api.get(path, headers=CAROL)) == (404, "training-not-found")
    assert problem(api.delete(path, headers=CAROL)) == (404, "training-not-found")
    assert api.get("/trainings", headers=CAROL).json() == {"trainings": []}
    assert api.get(path, headers=OPERATOR).json()["owner"] == "alice"
    assert len(api.get("/trainings", headers=OPERATOR).json()["trainings"]) == 1
    assert problem(api.get("/trainings/*", headers=ALICE)) == (404, "training-not-found")


def test_what_cannot_be_trained_is_refused(api: httpx.Client, trainings: Trainings) -> None:
    assert problem(train(api, dataset="other")) == (404, "dataset-not-found")
    assert problem(train(api, name="tiny")) == (409, "name-taken")
    for changes in ({"preset": "huge"}, {"name": "../x"}, {"minutes": 0}, {"preset": {"init": "/etc"}}):
        assert problem(train(api, **changes)) == (422, "invalid-request")
    untyped = {"content": b'{"dataset": "shapes", "name": "mine"}', "headers": ALICE}
    said = {"detail": "The body should be a JSON object, with Content-Type: application/json", "pointer": ""}
    assert api.post("/trainings", **untyped).json()["errors"] == [said]  # type: ignore[arg-type]
    assert train(api).status_code == 202
    assert problem(train(api)) == (409, "name-taken")
    for number in range(3):
        assert train(api, name=f"more{number}").status_code == 202
    assert problem(train(api, name="last")) == (429, "limit-reached")
    trainings.report(claimed(trainings), "failed", reason="why")
    assert train(api, name="last").status_code == 202


def test_neither_stops_and_resumes_nor_many_requests_at_once_are_a_way_around_the_limit(
    api: httpx.Client, trainings: Trainings
) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda number: train(api, name=f"at-once{number}"), range(8))]
    accepted = [answer.json()["id"] for answer in made if answer.status_code == 202]
    assert len(accepted) == 4
    assert {problem(answer) for answer in made if answer.status_code != 202} == {(429, "limit-reached")}

    def ask(training_id: str, wanted: str) -> httpx.Response:
        return api.post(f"/trainings/{training_id}/{wanted}", headers=ALICE)

    assert ask(accepted[0], "stop").status_code == 202
    assert train(api, name="instead").status_code == 202
    assert problem(ask(accepted[0], "resume")) == (429, "limit-reached")
    for wanted in ("pause", "resume"):  # it is one of the four already
        assert ask(accepted[1], wanted).status_code == 202
    assert api.delete(f"/trainings/{accepted[1]}", headers=ALICE).status_code == 204
    assert ask(accepted[0], "resume").status_code == 202
    assert sum(not each.is_over for each in trainings.all()) == 4


def test_a_record_of_a_newer_difuso_is_left_out_of_lists(api: httpx.Client, redis_url: str) -> None:
    ids = [train(api, name=name).json()["id"] for name in ("newer", "known")]
    with redis.Redis.from_url(redis_url) as client:
        client.hset(RECORD + ids[0], "state", "archived")
    listed = api.get("/trainings", headers=OPERATOR)
    assert [each["id"] for each in listed.json()["trainings"]] == ids[1:]
    assert problem(api.get(f"/trainings/{ids[0]}", headers=ALICE)) == (404, "training-not-found")
    assert train(api).status_code == 202


def test_a_dataset_is_kept_as_long_as_a_training_uses_it(api: httpx.Client, trainings: Trainings) -> None:
    path = f"/trainings/{train(api).json()['id']}"
    assert problem(api.delete("/datasets/shapes", headers=ALICE)) == (409, "not-possible-now")
    trainings.report(claimed(trainings), "succeeded")
    assert api.delete("/datasets/shapes", headers=ALICE).status_code == 204
    assert api.get(path, headers=ALICE).json()["state"] == "succeeded"


def test_a_training_is_paused_resumed_stopped_and_deleted(api: httpx.Client, trainings: Trainings) -> None:
    path = f"/trainings/{train(api).json()['id']}"

    def ask(wanted: str) -> str:
        answer = api.post(f"{path}/{wanted}", headers=ALICE)
        return str(answer.json()["state"]) if answer.status_code == 202 else problem(answer)[1]

    assert [ask(wanted) for wanted in ("pause", "pause", "resume")] == ["paused", "not-possible-now", "queued"]
    claim = claimed(trainings)
    assert [ask(wanted) for wanted in ("pause", "resume", "stop")] == ["pausing", "running", "stopping"]
    assert trainings.report(claim, "stopped") == "stop"
    assert ask("stop") == "not-possible-now"
    assert api.delete(path, headers=ALICE).status_code == 204
    assert api.get(path, headers=ALICE).status_code == 404
    assert trainings.claim("delete") is not None


def test_events_tell_each_change_and_end_with_the_training(api: httpx.Client, trainings: Trainings) -> None:
    path = f"/trainings/{train(api).json()['id']}"
    claim = claimed(trainings)
    with api.stream("GET", f"{path}/events", headers=ALICE) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith(("event", "data")))
        assert next(lines) == "event: progress"
        assert json.loads(next(lines).removeprefix("data: "))["progress"]["step"] == 0
        trainings.report(claim, progress=Progress(step=7, steps=10).model_dump_json())
        assert next(lines) == "event: progress"
        assert json.loads(next(lines).removeprefix("data: "))["progress"]["step"] == 7
        trainings.report(claim, "failed", reason="the disk is full")
        assert next(lines) == "event: failed"
        assert json.loads(next(lines).removeprefix("data: "))["reason"] == "the disk is full"
        assert list(lines) == []
    wait_until(lambda: api.get(path, headers=ALICE).json()["state"] == "failed", 5, "it has failed")


def test_the_events_of_a_training_that_is_deleted_end_quietly(
    api: httpx.Client, trainings: Trainings, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"/trainings/{train(api).json()['id']}"
    with api.stream("GET", f"{path}/events", headers=ALICE) as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("event"))
        assert next(lines) == "event: progress"
        assert api.delete(path, headers=ALICE).status_code == 204
        assert list(lines) == []
    assert problem(api.get(f"{path}/events", headers=ALICE)) == (404, "training-not-found")
    assert "Traceback" not in caplog.text


def test_the_client_sends_pictures_and_leaves_none_behind_if_it_is_refused(
    api: httpx.Client, trainings: Trainings, tmp_path: Path
) -> None:
    pictures = write_icons(tmp_path / "icons.zip")
    (table := tmp_path / "table.csv").write_text("file_name,age\ncircle/1.png,3\n")
    with Client(str(api.base_url), api_key="carol-key") as client:
        with pytest.raises(InvalidRequest, match="has it; choose another"):
            client.train(pictures, name="tiny")
        assert api.get("/datasets", headers=CAROL).json() == {"datasets": []}
        made = client.train(pictures, name="kept", preset="taste", minutes=2, table=table)
        assert (made["state"], made["dataset"], made["minutes"]) == ("queued", "kept", 2)
        assert api.get("/datasets/kept", headers=CAROL).json()["summary"]["columns"] == {"age": 1}
        assert client.training(made["id"], ask="pause")["state"] == "paused"
        assert client.training(made["id"])["state"] == "paused"
        assert [each["id"] for each in client.trainings()["trainings"]] == [made["id"]]
        with pytest.raises(InvalidRequest, match="The training is paused"):
            client.training(made["id"], ask="pause")
        assert client.training(made["id"], ask="delete") == {}
        with pytest.raises(NotFound):
            client.training(made["id"])
    api.delete("/datasets/kept", headers=CAROL)


@contextmanager
def acting(trainings: Trainings, state: State, **fields: Any) -> Iterator[None]:
    """Acts as a trainer that takes the next training, and ends it after a line of its log and another."""

    def act() -> None:
        wait_until(trainings.all, 20, "a training has come")
        wait_until(lambda: trainings.all()[0].state == "queued", 20, "it is the next one")
        claim = claimed(trainings)
        trainings.report(claim, log="step 1 of 2\n")
        trainings.report(claim, state, log="step 1 of 2\nstep 2 of 2\n", **fields)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(act)
        yield
        done.result()


def test_the_command_follows_a_training_as_one_of_its_own(
    api: httpx.Client, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFUSO_API_KEY", "carol-key")
    pictures = write_icons(tmp_path / "my icons.zip")
    command = ["train", "--server", str(api.base_url), str(pictures)]

    def said(*more: str) -> str:
        return CliRunner().invoke(cli.app, [*command, *more], catch_exceptions=False).output

    with acting(trainings, "succeeded"):
        output = said()
    assert output.count("step 1 of 2") == output.count("step 2 of 2") == 1
    assert "the training of my-icons has ended; draw with it" in output
    assert "a model remembers them" in output
    with pytest.raises(UserError, match="my-icons was begun before with --preset good: give the same"):
        said("--preset", "taste")
    with pytest.raises(UserError, match="my-icons was begun before without --minutes"):
        said("--minutes", "3")
    output = said()
    assert "was begun before, on the dataset my-icons" in output
    assert "the training of my-icons has ended" in output, "as in the morning after"
    with acting(trainings, "failed", reason="the disk is full"), pytest.raises(UserError, match="the disk is full"):
        said("--name", "other")
    with acting(trainings, "succeeded"):
        assert "step 2 of 2" in said("--name", "priced", "--dry-run")
    assert trainings.create(trainings.all()[0].model_copy(update={"id": "x", "name": "priced"}))
    assert trainings.ask("x", "stop")
    names = {each["name"] for each in api.get("/datasets", headers=CAROL).json()["datasets"]}
    assert names == {"my-icons", "other"}
    with pytest.raises(UserError, match="without --set and --out"):
        said("--set", "batch_size=1")
    zipfile.ZipFile(pictures).extractall(tmp_path / "the.icons")
    command[-1] = str(tmp_path / "the.icons")
    with acting(trainings, "succeeded"):
        assert "the training of the.icons has ended" in said()
    names.add("the.icons")
    assert api.get("/datasets/the.icons", headers=CAROL).json()["summary"]["classes"] == dict.fromkeys(SHAPES, 20)
    for name in names:
        assert api.delete(f"/datasets/{name}", headers=CAROL).status_code == 204


def test_a_training_is_deleted_some_time_after_its_end_with_its_files(
    settings: ApiSettings, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "SWEEP_SECONDS", 0.1)
    store = tmp_path / "store"
    with running(settings.model_copy(update={"store_url": str(store), "dataset_ttl": 2})) as api:
        sent = {"files": [("images", ("mine.zip", zipped(icons())))], "data": {"name": "shapes"}}
        assert api.post("/datasets", headers=ALICE, **sent).status_code == 201  # type: ignore[arg-type]
        made = train(api).json()
        claim = claimed(trainings)
        (sheet := tmp_path / "sheet.png").write_bytes(png(icon("circle", 1)))
        TrainingFiles(str(store)).add_sheet(made["id"], "sheets", 20, sheet)
        trainings.report(claim, "failed", reason="why")
        assert api.get(f"/trainings/{made['id']}", headers=ALICE).json()["state"] == "failed"
        wait_until(lambda: api.get(f"/trainings/{made['id']}", headers=ALICE).status_code == 404, 20, "it is forgotten")
        wait_until(lambda: not [*store.glob("trainings/*")], 20, "its files are gone")
        wait_until(lambda: not [*store.glob("datasets/*/*")], 20, "the dataset, which it used, too")


def test_an_expired_training_whose_model_is_served_has_no_files(
    settings: ApiSettings, trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "SWEEP_SECONDS", 0.1)
    with running(settings.model_copy(update={"store_url": str(tmp_path / "store"), "dataset_ttl": 2})) as api:
        sent = {"files": [("images", ("mine.zip", zipped(icons())))], "data": {"name": "shapes"}}
        assert api.post("/datasets", headers=ALICE, **sent).status_code == 201  # type: ignore[arg-type]
        address = f"/trainings/{train(api).json()['id']}"
        progress = Progress(step=9, steps=9, sheets=(9,), nearest=(9,), served=9).model_dump_json()
        trainings.report(claimed(trainings), "succeeded", progress=progress)
        wait_until(lambda: api.get(address, headers=ALICE).json()["expired"], 20, "it is expired")
        shown = api.get(address, headers=ALICE).json()
        assert (shown["sheets"], shown["nearest"], shown["progress"]["served"]) == ([], [], 9)
        assert api.delete(address, headers=ALICE).status_code == 204


def test_without_training_there_are_no_trainings(settings: ApiSettings) -> None:
    with running(settings.model_copy(update={"training": False})) as api:
        assert api.get("/trainings", headers=ALICE).status_code == 404
        command = ["train", "--server", str(api.base_url), "mine.zip"]
        with pytest.raises(UserError, match="DIFUSO_TRAINING turns that on"):
            CliRunner().invoke(cli.app, command, catch_exceptions=False, env={"DIFUSO_API_KEY": "alice-key"})
