"""Datasets over HTTP: what is kept of an archive, what is left out and why, whose they are, and hostile archives."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from difuso.app.settings import ApiSettings
from difuso.jobs.trainings.datasets import INCOMPLETE_SECONDS, Datasets
from tests.app_server import ALICE, BOB, CAROL, OPERATOR, training_keys_file
from tests.icons import icon, icons, png, zipped


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


def test_without_training_there_are_no_datasets(new_settings: Callable[..., httpx.Client]) -> None:
    assert new_settings(training=False).get("/datasets", headers=ALICE).status_code == 404


def bomb(size: int = 400 << 20) -> bytes:
    return zipped({**icons(), "zeros.png": b"\x89PNG\r\n\x1a\n" + bytes(size)})


def wide_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def with_modes(name: str, mode: int) -> bytes:
    file = io.BytesIO(zipped(icons()))
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def patched(before: bytes, after: bytes, count: int = 1) -> bytes:
    return zipped(icons()).replace(before, after, count)


def many(count: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.png", b"")
    return file.getvalue()


def wrong_sum() -> bytes:
    return patched(zlib.crc32(icons()["circle/1.png"]).to_bytes(4, "little"), b"\1\2\3\4", 2)


def end_with(at: int, value: bytes) -> bytes:
    content = bytearray(zipped(icons()))
    end = content.rfind(b"PK\5\6")
    content[end + at : end + at + len(value)] = value
    return bytes(content)


def quoted() -> bytes:
    """An archive whose entries all hold the same bytes: a few kilobytes that unpack to gigabytes."""
    content = zipped({"a.png": bytes(4 << 20)})
    start = content.find(b"PK\1\2")
    end = content.rfind(b"PK\5\6")
    entry, count = content[start:end], 600
    tail = bytearray(content[end:])
    tail[8:12] = struct.pack("<HH", count, count)
    tail[12:16] = struct.pack("<I", len(entry) * count)
    return content[:start] + entry * count + bytes(tail)


# What is refused as a whole, each with a word of the reason.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (bomb, "would unpack"),
    "entries that share their bytes": (quoted, "would unpack"),
    "21,000 files": (lambda: many(21_000), "is the most"),
    "no archive": (lambda: b"hello, I am no archive", "no zip archive"),
    "nothing": (lambda: b"PK\5\6" + bytes(18), "There are 0 pictures"),
    "torn": (lambda: zipped(icons())[:-300], "no zip archive"),
    "a directory of gigabytes": (lambda: end_with(12, b"\xff\xff\xff\x7f"), "is the most"),
    "a directory elsewhere": (lambda: end_with(16, b"\xff\xff\xff\x7f"), "damaged"),
    "zeros alone": (lambda: bytes(1 << 20), "no zip archive"),
    "zip64 that contradicts": (
        lambda: (content := zipped(icons()))[: (at := content.rfind(b"PK\5\6"))] + b"PK\6\7" + bytes(16) + content[at:],
        "ZIP64",
    ),
}
# What is left out, each with a word of the reason.
LEFT_OUT: dict[str, tuple[Callable[[], bytes], str]] = {
    "a name that leads out": (lambda: zipped({**icons(), "../../evil.png": png(icon("circle", 91))}), "leads out"),
    "an absolute name": (lambda: zipped({**icons(), "/etc/evil.png": png(icon("circle", 91))}), "leads out"),
    "a drive": (lambda: zipped({**icons(), "C:evil.png": png(icon("circle", 91))}), "characters"),
    "backslashes": (lambda: zipped({**icons(), "..\\evil.png": png(icon("circle", 91))}), ""),
    "an endless name": (lambda: zipped({**icons(), "a" * 5000 + ".png": png(icon("circle", 91))}), "too long"),
    "a link": (lambda: with_modes("link.png", 0o120777), "link"),
    "a device": (lambda: with_modes("device.png", 0o020666), "no file"),
    "a wide picture": (lambda: zipped({**icons(), "wide.png": wide_png()}), "60000x60000"),
    "an archive in it": (lambda: zipped({**icons(), "in.zip": bomb(1 << 20)}), "archives in archives"),
    "a page": (lambda: zipped({**icons(), "x.png": b"<svg onload=alert(1)>"}), "no picture"),
    "a wrong checksum": (wrong_sum, "damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_archive_is_refused_and_costs_little(case: str, api: httpx.Client, folder: Path) -> None:
    make, word = REFUSED[case]
    content = make()
    began = time.process_time()
    answer = send(api, content)
    assert word in detail(answer), answer.text
    assert time.process_time() - began < 5  # of this process, the server's threads included
    assert not [*folder.glob("store/datasets/alice/*")]


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_hostile_entry_is_left_out_and_written_nowhere(case: str, api: httpx.Client, folder: Path) -> None:
    make, word = LEFT_OUT[case]
    answer = send(api, make())
    assert answer.status_code == 201, answer.text
    summary = answer.json()["summary"]
    kept = set(zipfile.ZipFile(folder / "store/datasets/alice/shapes/pictures.zip").namelist())
    if case != "backslashes":  # which Python itself turns into /
        assert any(word in each["reason"] for each in summary["left_out"]), summary
    assert kept <= icons().keys()


def test_a_body_that_is_too_long_is_not_taken(api: httpx.Client) -> None:
    assert send(api, bytes(5_000_000)).status_code == 413
