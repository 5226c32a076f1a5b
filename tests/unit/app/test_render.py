from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from email.message import Message

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from app.answers import matches
from app.formats import Format
from app.render import FRAME_MILLISECONDS, SHEET_GAP, describe, entity_tag
from jobs.contract import ImageFile, Job, Manifest, Picture
from jobs.kinds.interpolate import Interpolation
from jobs.params import SamplingParams

SIZE = 8


def render(form: Format, manifest: Manifest, pngs: list[bytes], ends: Sequence[bytes] = ()) -> tuple[bytes, str]:
    assert form.render is not None
    body, parameters = form.render(manifest, pngs, ends)
    return body, f"{form}{parameters}"


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


def job_of(n: int) -> tuple[Manifest, list[bytes]]:
    pngs = [png(30 * index) for index in range(n)]
    params = SamplingParams(n=n, steps=2, sampler="ddim", spacing="leading", eta=0.0, seed=7)
    images = tuple(
        ImageFile(path=f"secret-place/{index}.png", seed=7 + index, sha256=hashlib.sha256(data).hexdigest())
        for index, data in enumerate(pngs)
    )
    job = Job(
        id="0f8fad5b-d9cb-469f-a165-70867728950e",
        model="tiny",
        params=params,
        accepted_at=0,
        timeout=1,
    )
    return Manifest(job=job, model_sha256="abc", timesteps=(500, 0), images=images, finished_at=1), pngs


def test_one_picture_is_answered_as_the_worker_stored_it() -> None:
    manifest, pngs = job_of(1)
    assert render(Format.PNG, manifest, pngs) == (pngs[0], "image/png")


@pytest.mark.parametrize(("n", "columns", "rows"), [(2, 2, 1), (4, 2, 2), (5, 3, 2), (8, 3, 3)])
def test_several_become_a_sheet_near_a_square_that_says_how_it_was_made(n: int, columns: int, rows: int) -> None:
    manifest, pngs = job_of(n)
    body, _ = render(Format.PNG, manifest, pngs)
    sheet = Image.open(io.BytesIO(body))
    sheet.load()
    cell = SIZE + SHEET_GAP
    assert sheet.size == (columns * cell - SHEET_GAP, rows * cell - SHEET_GAP)
    row, column = divmod(n - 1, columns)
    assert sheet.getpixel((column * cell, row * cell)) == (30 * (n - 1),) * 3
    told = json.loads(str(sheet.info["difuso"]))
    assert told["params"]["seed"] == 7
    assert told["timesteps"] == [500, 0]
    assert "secret-place" not in str(sheet.info)


def test_a_zip_holds_the_pictures_and_the_manifest() -> None:
    manifest, pngs = job_of(3)
    body, _ = render(Format.ZIP, manifest, pngs)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert [archive.read(f"{index}.png") for index in range(3)] == pngs
        images = json.loads(archive.read("manifest.json"))["images"]
    assert [image["seed"] for image in images] == [7, 8, 9]


def test_an_archive_says_that_a_compiled_network_made_it() -> None:
    manifest, _ = job_of(1)
    assert "compiled" not in describe(manifest)
    assert describe(manifest.model_copy(update={"compiled": True}))["compiled"] is True


def test_a_multipart_message_can_be_read_by_others() -> None:
    manifest, pngs = job_of(2)
    body, media_type = render(Format.MULTIPART, manifest, pngs)
    message = message_from_bytes(f"Content-Type: {media_type}\r\n\r\n".encode() + body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [part.get_content_type() for part in parts if isinstance(part, Message)] == [
        "application/json",
        "image/png",
        "image/png",
    ]
    assert body.count(pngs[1]) == 1


def frames(body: bytes) -> list[int]:
    """The grey of each picture of an animation."""
    greys: list[int] = []
    with Image.open(io.BytesIO(body)) as image:
        assert isinstance(image, PngImageFile)
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            greys.append(image.convert("L").tobytes()[0])
    return greys


def test_an_animation_goes_there_and_back_between_the_ends() -> None:
    manifest, pngs = job_of(3)
    body, media_type = render(Format.APNG, manifest, pngs, ends=[png(250), png(200)])
    assert media_type == "image/apng"
    assert frames(body) == [250, 0, 30, 60, 200, 60, 30, 0]
    image = Image.open(io.BytesIO(body))
    assert image.size == (SIZE, SIZE)
    assert image.info["loop"] == 0
    assert image.info["duration"] == FRAME_MILLISECONDS
    assert json.loads(str(image.info["difuso"]))["params"]["seed"] == 7


@pytest.mark.parametrize(("n", "course"), [(1, [0]), (2, [0, 30]), (4, [0, 30, 60, 90, 60, 30])])
def test_an_animation_without_ends(n: int, course: list[int]) -> None:
    manifest, pngs = job_of(n)
    assert frames(render(Format.APNG, manifest, pngs)[0]) == course


def test_several_between_two_are_one_strip() -> None:
    manifest, pngs = job_of(4)
    body, _ = render(Format.PNG, manifest, pngs, ends=[png(250), png(200)])
    strip = Image.open(io.BytesIO(body))
    cell = SIZE + SHEET_GAP
    assert strip.size == (6 * cell - SHEET_GAP, SIZE)
    assert [strip.getpixel((i * cell, 0)) for i in range(6)] == [(grey,) * 3 for grey in (250, 0, 30, 60, 90, 200)]


def test_one_between_two_is_answered_as_it_was_stored() -> None:
    manifest, pngs = job_of(1)
    assert render(Format.PNG, manifest, pngs, ends=[png(250), png(200)]) == (pngs[0], "image/png")


@pytest.mark.parametrize("form", [Format.ZIP, Format.MULTIPART])
def test_the_ends_are_not_among_the_pictures_of_an_archive(form: Format) -> None:
    manifest, pngs = job_of(2)
    assert render(form, manifest, pngs, ends=[png(250), png(200)]) == render(form, manifest, pngs)


def test_what_was_sent_is_told_by_its_hash() -> None:
    manifest, _ = job_of(2)
    assert "task" not in describe(manifest)
    task = Interpolation(shares=(0.2, 0.8), depth=9)
    picture = Picture(sha256="ab" * 32, width=20, height=10)
    job = manifest.job.model_copy(update={"task": task, "pictures": (picture, picture)})
    told = describe(manifest.model_copy(update={"job": job}))
    assert told["kind"] == "interpolate"
    assert told["task"]["shares"] == (0.2, 0.8)
    assert told["pictures"] == [{"sha256": "ab" * 32, "width": 20, "height": 10}] * 2


def test_each_format_has_its_own_tag_and_it_follows_the_content() -> None:
    tags = {entity_tag(form, job_of(n)[0]) for form in Format for n in (1, 2)}
    assert len(tags) == 2 * len(Format)


@pytest.mark.parametrize(
    ("known", "result"), [(None, False), ('"b"', False), ('"b", W/"a"', True), ("*", True), ("a", False)]
)
def test_if_none_match(known: str | None, result: bool) -> None:
    assert matches(known, '"a"') is result
