"""Datasets over HTTP: what is kept of an archive, what is left out and why, whose they are, and hostile archives."""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from difuso.app.requests.dataset_uploads import LEFT_SECONDS, PREFIX, DatasetUploads
from difuso.app.settings import ApiSettings
from difuso.jobs.trainings.datasets import INCOMPLETE_SECONDS, Datasets
from tests.app_server import ALICE, BOB, CAROL, OPERATOR, training_keys_file
from tests.hostile_archives import bomb
from tests.icons import icon, icons, png, zipped, zipped_by_finder


@pytest.fixture
def settings(settings: ApiSettings, folder: Path) -> ApiSettings:
    keys = training_keys_file(folder)
    return settings.model_copy(update={"training": True, "api_keys_file": keys, "max_dataset": 4_000_000})


@pytest.fixture(autouse=True)
def _none_before(api: httpx.Client) -> None:
    for each in api.get("/datasets", headers=OPERATOR).json()["datasets"]:
        api.delete(f"/datasets/{each['name']}", params={"owner": each["owner"]}, headers=OPERATOR)


def send(
    api: httpx.Client, content: bytes, *, name: str = "shapes", headers: dict[str, str] = ALICE, **more: Any
) -> httpx.Response:
    files = [("images", ("mine.zip", content)), *more.items()]
    return api.post("/datasets", files=files, data={"name": name, "licence": "CC0-1.0"}, headers=headers)


def detail(answer: httpx.Response) -> str:
    assert answer.status_code == 422, answer.text
    return str(answer.json()["errors"][0]["detail"])


def test_an_archive_is_kept_as_pictures_with_classes_and_columns(api: httpx.Client) -> None:
    files = icons()
    rows = "\n".join(["file_name,age,mood", *(f"{name},{place},{place % 2}" for place, name in enumerate(files))])
    answer = send(api, zipped(files), table=("t.csv", rows.encode()))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["summary"]["count"] == 60
    assert made["summary"]["classes"] == {"circle": 20, "square": 20, "triangle": 20}
    assert made["summary"]["columns"] == {"age": 60, "mood": 2}
    assert "remembers" in made["summary"]["advice"]
    assert made["licence"] == "CC0-1.0"
    assert api.get("/datasets/shapes", headers=ALICE).json() == made
    sheet = Image.open(io.BytesIO(api.get("/datasets/shapes/thumbnails.png", headers=ALICE).content))
    assert sheet.size == (12 * 64, 4 * 64)


def test_folders_of_an_archive_of_macos_keep_their_letters(api: httpx.Client) -> None:
    files = {f"Bäume/{name}": content for name, content in icons(51).items()}
    names = {f"Bäume/größe {place}.png": content for place, content in enumerate(files.values())}
    rows = "\n".join(["file_name,age", *(f"{name},{place}" for place, name in enumerate(names))])
    summary = send(api, zipped_by_finder(names), table=("t.csv", rows.encode())).json()["summary"]
    assert summary["classes"] == {"Bäume": 51}
    assert summary["columns"] == {"age": 51}


def test_many_pictures_may_be_sent_without_an_archive(api: httpx.Client) -> None:
    files = [("images", (name, content)) for name, content in icons().items()]
    answer = api.post("/datasets", files=files, data={"name": "loose"}, headers=ALICE)
    assert answer.status_code == 201, answer.text
    assert answer.json()["summary"]["classes"]["circle"] == 20


def test_what_cannot_be_used_is_left_out_with_its_reason(api: httpx.Client) -> None:
    files = icons()
    odd = {
        "a/twin.png": files["circle/3.png"],
        "a/torn.png": files["circle/4.png"][:200],
        "a/print.jpg": png(icon("circle", 99).convert("CMYK"), "JPEG"),
        "a/phone.heic": b"\0\0\0\x18ftypheic" + bytes(100),
        "a/notes.txt": b"hello",
        "a/tiny.png": png(Image.new("RGB", (3, 3))),
        "a/inner.zip": zipped(files),
        "__MACOSX/._1.png": b"fork",
        ".DS_Store": b"store",
    }
    summary = send(api, zipped(files | odd)).json()["summary"]
    reasons = {each["name"]: each["reason"] for each in summary["left_out"]}
    assert summary["count"] == 60
    assert summary["duplicates"] == 1
    assert reasons["a/twin.png"] == "its pixels are those of circle/3.png"
    assert "CMYK" in reasons["a/print.jpg"]
    assert "HEIC" in reasons["a/phone.heic"]
    assert "archives in archives" in reasons["a/inner.zip"]
    assert reasons.keys() == {name for name in odd if name.startswith("a/")}


def test_what_a_picture_says_about_its_place_is_dropped_and_it_is_upright(api: httpx.Client, folder: Path) -> None:
    image = Image.effect_noise((400, 300), 80).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a secret place"
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    assert send(api, zipped({**icons(), "x/p.jpg": file.getvalue()})).status_code == 201
    (kept,) = folder.glob("store/datasets/alice/shapes/pictures.zip")
    content = zipfile.ZipFile(kept).read("x/p.jpg")
    assert b"secret" not in kept.read_bytes()
    assert Image.open(io.BytesIO(content)).size == (150, 200)


def test_too_few_pictures_are_refused_with_advice(api: httpx.Client) -> None:
    text = detail(send(api, zipped(icons(12))))
    assert "There are 12 pictures" in text
    assert "several hundred" in text
    assert api.get("/datasets", headers=ALICE).json() == {"datasets": []}


def test_a_dataset_is_private_and_deleted_with_all_its_bytes(api: httpx.Client, folder: Path) -> None:
    assert send(api, zipped(icons()), headers=BOB).status_code == 403
    assert api.get("/datasets", headers=BOB).json()["type"] == "/problems/not-allowed"
    assert send(api, zipped(icons())).status_code == 201
    assert "delete it first" in detail(send(api, zipped(icons())))
    for path in ("/datasets/shapes", "/datasets/shapes/thumbnails.png"):
        assert api.get(path, headers=CAROL).status_code == 404
        assert api.get(path, params={"owner": "alice"}, headers=CAROL).status_code == 404
        assert api.get(path, params={"owner": "alice"}, headers=OPERATOR).status_code == 200
    assert api.delete("/datasets/shapes", headers=CAROL).status_code == 404
    assert [each["owner"] for each in api.get("/datasets", headers=OPERATOR).json()["datasets"]] == ["alice"]
    assert api.delete("/datasets/shapes", headers=ALICE).status_code == 204
    assert not [*folder.glob("store/datasets/alice/*")]


def test_an_owner_has_a_quota(new_settings: Callable[..., httpx.Client]) -> None:
    api = new_settings(max_dataset=40_000)
    sent = [send(api, zipped(icons(54)), name=f"set{number}") for number in range(12)]
    refused = next(answer for answer in sent if answer.status_code != 201)
    assert "delete one" in detail(refused)
    assert sent[0].status_code == 201


@pytest.fixture
def new_settings(settings: ApiSettings, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., httpx.Client]:
    from tests.app_server import running

    def start(**changes: Any) -> httpx.Client:
        running_one = running(settings.model_copy(update={"store_url": str(tmp_path / "store"), **changes}))
        client = running_one.__enter__()
        request.addfinalizer(lambda: running_one.__exit__(None, None, None))
        return client

    return start


def test_what_is_too_old_or_was_never_complete_is_swept(api: httpx.Client, folder: Path) -> None:
    for name in ("kept", "old", "torn"):
        assert send(api, zipped(icons()), name=name).status_code == 201
    home = folder / "store/datasets/alice"
    record = home / "old" / "dataset.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"expires_at": time.time() - 1}))
    (home / "torn" / "dataset.json").unlink()
    assert api.get("/datasets/old", headers=ALICE).status_code == 404
    datasets = Datasets(str(folder / "store"))
    datasets.sweep()
    assert {each.name for each in home.iterdir()} == {"kept", "torn"}  # which somebody may still be writing
    for file in (home / "torn").iterdir():
        os.utime(file, (time.time() - 2 * INCOMPLETE_SECONDS,) * 2)
    datasets.sweep()
    assert {each.name for each in home.iterdir()} == {"kept"}


def test_what_a_dead_process_received_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("old", "new"):
        (folder := tmp_path / f"{PREFIX}{name}").mkdir()
        (folder / "0").write_bytes(b"pixels")
    os.utime(tmp_path / f"{PREFIX}old", (time.time() - 2 * LEFT_SECONDS,) * 2)
    DatasetUploads(max_bytes=1, ttl=1)
    assert [each.name for each in tmp_path.iterdir()] == [f"{PREFIX}new"]


def test_without_training_there_are_no_datasets(new_settings: Callable[..., httpx.Client]) -> None:
    assert new_settings(training=False).get("/datasets", headers=ALICE).status_code == 404


def test_a_hostile_archive_is_refused_over_http(api: httpx.Client, folder: Path) -> None:
    answer = send(api, bomb())
    assert "would unpack" in detail(answer), answer.text
    assert not [*folder.glob("store/datasets/alice/*")]


def test_a_hostile_entry_is_left_out_and_written_nowhere(api: httpx.Client, folder: Path) -> None:
    answer = send(api, zipped({**icons(), "../../evil.png": png(icon("circle", 91))}))
    assert answer.status_code == 201, answer.text
    assert "leads out" in answer.json()["summary"]["left_out"][0]["reason"]
    assert set(zipfile.ZipFile(folder / "store/datasets/alice/shapes/pictures.zip").namelist()) == icons().keys()
    assert not [*folder.rglob("evil.png")]


def test_a_body_that_is_too_long_is_not_taken(api: httpx.Client) -> None:
    assert send(api, bytes(5_000_000)).status_code == 413
