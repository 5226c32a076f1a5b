from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from difuso.app.formats import FRAME_MILLISECONDS, SHEET_GAP, Format, Result, describe
from difuso.app.http.headers import matches
from difuso.jobs.contract import ImageFile, Job, Manifest, Picture
from difuso.jobs.images.npz import encode_npz
from difuso.jobs.kinds.interpolate import Interpolation
from difuso.jobs.never_seen import JobWarning
from difuso.jobs.params import SamplingParams

SIZE = 8


def render(
    form: Format, manifest: Manifest, pngs: list[bytes], ends: Sequence[bytes] = (), trace: bytes | None = None
) -> bytes:
    assert form.render is not None
    return form.render(Result(manifest, pngs, ends, trace))


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
    return Manifest(job=job, timesteps=(500, 0), images=images, finished_at=1), pngs


def test_one_picture_is_answered_as_the_worker_stored_it() -> None:
    manifest, pngs = job_of(1)
    assert render(Format.PNG, manifest, pngs) == pngs[0]


@pytest.mark.parametrize(("n", "columns", "rows"), [(2, 2, 1), (4, 2, 2), (5, 3, 2), (6, 3, 2), (7, 3, 3), (8, 4, 2)])
def test_several_become_a_sheet_near_a_square_that_says_how_it_was_made(n: int, columns: int, rows: int) -> None:
    manifest, pngs = job_of(n)
    body = render(Format.PNG, manifest, pngs)
    sheet = Image.open(io.BytesIO(body))
    sheet.load()
    cell = SIZE + SHEET_GAP
    assert sheet.size == (columns * cell - SHEET_GAP, rows * cell - SHEET_GAP)
    row, column = divmod(n - 1, columns)
    assert sheet.getpixel((column * cell, row * cell)) == (30 * (n - 1),) * 3
    shown = json.loads(str(sheet.info["difuso"]))
    assert shown["params"]["seed"] == 7
    assert shown["timesteps"] == [500, 0]
    assert "secret-place" not in str(sheet.info)


def test_a_zip_holds_the_pictures_and_the_manifest() -> None:
    manifest, pngs = job_of(3)
    body = render(Format.ZIP, manifest, pngs)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert [archive.read(f"{index}.png") for index in range(3)] == pngs
        shown = json.loads(archive.read("manifest.json"))
    assert [image["seed"] for image in shown["images"]] == [7, 8, 9]
    assert "warnings" not in shown
    warned = manifest.job.model_copy(update={"warnings": (JobWarning(detail="never seen"),)})
    assert describe(manifest.model_copy(update={"job": warned})) == {
        **describe(manifest),
        "warnings": [{"code": "never-seen-together", "detail": "never seen"}],
    }


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
    body = render(Format.APNG, manifest, pngs, ends=[png(250), png(200)])
    assert frames(body) == [250, 0, 30, 60, 200, 60, 30, 0]
    image = Image.open(io.BytesIO(body))
    assert image.size == (SIZE, SIZE)
    assert image.info["loop"] == 0
    assert image.info["duration"] == FRAME_MILLISECONDS
    assert json.loads(str(image.info["difuso"]))["params"]["seed"] == 7


@pytest.mark.parametrize(("n", "course"), [(1, [0]), (2, [0, 30]), (4, [0, 30, 60, 90, 60, 30])])
def test_an_animation_without_ends(n: int, course: list[int]) -> None:
    manifest, pngs = job_of(n)
    assert frames(render(Format.APNG, manifest, pngs)) == course


@pytest.mark.parametrize(("ends", "greys"), [((250, 200), (250, 0, 30, 60, 90, 200)), ((), (0, 30, 60, 90))])
def test_several_between_two_are_one_strip(ends: tuple[int, ...], greys: tuple[int, ...]) -> None:
    """Of two images, which are its ends, and of two seeds."""
    manifest, pngs = job_of(4)
    task = Interpolation(shares=(0.2, 0.4, 0.6, 0.8), depth=9)
    manifest = manifest.model_copy(update={"job": manifest.job.model_copy(update={"task": task})})
    body = render(Format.PNG, manifest, pngs, ends=[png(grey) for grey in ends])
    strip = Image.open(io.BytesIO(body))
    cell = SIZE + SHEET_GAP
    assert strip.size == (len(greys) * cell - SHEET_GAP, SIZE)
    assert [strip.getpixel((i * cell, 0)) for i in range(len(greys))] == [(grey,) * 3 for grey in greys]


def test_one_between_two_is_answered_as_it_was_stored() -> None:
    manifest, pngs = job_of(1)
    assert render(Format.PNG, manifest, pngs, ends=[png(250), png(200)]) == pngs[0]


def test_the_ends_are_not_among_the_pictures_of_an_archive() -> None:
    manifest, pngs = job_of(2)
    assert render(Format.ZIP, manifest, pngs, ends=[png(250), png(200)]) == render(Format.ZIP, manifest, pngs)


def test_what_was_sent_is_named_by_its_hash() -> None:
    manifest, _ = job_of(2)
    assert "task" not in describe(manifest)
    task = Interpolation(shares=(0.2, 0.8), depth=9)
    picture = Picture(sha256="ab" * 32, width=20, height=10)
    job = manifest.job.model_copy(update={"task": task, "pictures": (picture, picture)})
    shown = describe(manifest.model_copy(update={"job": job}))
    assert shown["kind"] == "interpolate"
    assert shown["task"]["shares"] == (0.2, 0.8)
    assert shown["pictures"] == [{"sha256": "ab" * 32, "width": 20, "height": 10}] * 2


def test_each_format_has_its_own_tag_and_it_follows_the_content() -> None:
    tags = {form.entity_tag(job_of(n)[0]) for form in Format for n in (1, 2)}
    assert len(tags) == 2 * len(Format)


@pytest.mark.parametrize(
    ("known", "result"), [(None, False), ('"b"', False), ('"b", W/"a"', True), ("*", True), ("a", False)]
)
def test_if_none_match(known: str | None, result: bool) -> None:
    assert matches(known, '"a"') is result


def trace_of(n: int, levels: Sequence[float], *, channels: int = 3) -> bytes:
    """A trace whose predicted images are even, a little brighter from image to image."""
    x_0 = np.zeros((n, len(levels), SIZE, SIZE, channels), np.float32)
    x_0 += np.array(levels, np.float32)[None, :, None, None, None] + np.arange(n)[:, None, None, None, None] / 127.5
    times = np.arange(len(levels), dtype=np.float64)
    return encode_npz({"timesteps": times, "alphas_cumprod": times, "x_t": x_0 / 2, "x_0": x_0})


def test_arrays_are_the_images_the_classes_and_the_trace() -> None:
    manifest, pngs = job_of(3)
    body = render(Format.NPZ, manifest, pngs)
    with np.load(io.BytesIO(body)) as arrays:
        assert arrays.files == ["arr_0"]
        assert arrays["arr_0"].shape == (3, SIZE, SIZE, 3)
        assert arrays["arr_0"][:, 0, 0, 0].tolist() == [0, 30, 60]
    params = manifest.job.params.model_copy(update={"label": 2})
    named = manifest.model_copy(update={"job": manifest.job.model_copy(update={"params": params})})
    trace = trace_of(3, [-1.0, 0.5])
    body = render(Format.NPZ, named, pngs, trace=trace)
    with np.load(io.BytesIO(body)) as arrays, np.load(io.BytesIO(trace)) as kept:
        assert arrays.files == ["arr_0", "arr_1", "timesteps", "alphas_cumprod", "x_t", "x_0"]
        assert arrays["arr_1"].tolist() == [2, 2, 2]
        assert all(np.array_equal(arrays[name], kept[name]) for name in kept.files)


def test_a_trace_changes_the_tags_of_what_shows_it_and_nothing_else() -> None:
    manifest, pngs = job_of(2)
    keeping = [
        manifest.model_copy(update={"job": manifest.job.model_copy(update={"trace": trace})}) for trace in ((1,), (2,))
    ]
    shown = {form for form in Format if form.shows_trace}
    assert shown == {Format.NPZ}
    for form in Format:
        assert len({form.entity_tag(each) for each in (manifest, *keeping)}) == (3 if form in shown else 1)
        if form.render is not None and form not in shown:
            assert render(form, keeping[0], pngs) == render(form, manifest, pngs)
