"""Multipart bodies: which parts are taken, how far a body is read, and how many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.requests import ClientDisconnect, Request

from difuso.app.errors import BodyTooLarge, InvalidRequest, MalformedBody, NotMultipart, Overloaded, UploadRefused
from difuso.app.requests.uploads import DECODERS, MAX_BODIES, MAX_WAITING, Uploads, read_form, request_body
from difuso.jobs.errors import BadImage, ImageRefused, UnsupportedFormat
from difuso.jobs.images.fitting import Sent
from tests.pictures import multipart, saved

TYPE = "multipart/form-data; boundary=b"
PNG = saved(Image.new("RGB", (3, 2)), "PNG")
JPEG = saved(Image.new("RGB", (8, 8)), "JPEG")


def size(picture: Sent) -> tuple[int, int]:
    assert isinstance(picture, Image.Image)
    return picture.size


Parts = dict[str, Callable[[Sent], tuple[int, int]]]
ONE: Parts = {"image": size}
PARTS: Parts = {"image": size, "mask": size}


def request(*chunks: bytes, content_type: str | None = TYPE, length: int | None = None) -> Request:
    """A request whose body comes in these chunks; more than these must not be asked for."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    left = iter(messages)

    async def receive() -> Any:
        return next(left)

    headers = {"content-type": content_type, "content-length": None if length is None else str(length)}
    raw = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}, receive)


def read(
    *chunks: bytes, parts: Parts = ONE, uploads: Uploads | None = None, **options: Any
) -> dict[str, tuple[int, int]]:
    uploads = uploads or Uploads(100_000)
    return asyncio.run(uploads.read(request(*chunks, **options), parts))


def test_the_named_parts_are_read_and_prepared() -> None:
    assert read(multipart(("image", PNG))) == {"image": (3, 2)}
    assert read(multipart(("mask", JPEG), ("image", PNG)), parts=PARTS) == {"image": (3, 2), "mask": (8, 8)}


@pytest.mark.parametrize("filename", [None, "", "../../etc/passwd", "x.gif", "\u202egnp.exe", "n\x00ul", "x" * 4000])
def test_what_a_file_is_called_does_not_matter(filename: str | None) -> None:
    assert read(multipart(("image", PNG), filename=filename)) == {"image": (3, 2)}


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"--b--\r\n", "image"),
        (multipart(("mask", PNG)), "image"),
        (multipart(("image", PNG)), "mask"),
        (multipart(("image", b""), ("mask", PNG)), "image"),
        (multipart(("image", PNG), ("mask", b""), filename=""), "mask"),
        (multipart(("image", PNG), ("image", PNG)), "image"),
        (multipart(("image", PNG), ("mask", PNG), ("mask", b"")), "mask"),
        (multipart(("image", PNG), ("photo", PNG)), "photo"),
        (multipart(("Image", PNG)), "Image"),
        (multipart(("x" * 1000, PNG)), "x" * 64),
    ],
    ids=[
        "none",
        "not the first",
        "not the second",
        "empty",
        "empty without a name",
        "twice",
        "twice, once empty",
        "unknown",
        "upper case",
        "long name",
    ],
)
def test_missing_repeated_and_unknown_parts_are_named(body: bytes, part: str) -> None:
    with pytest.raises(UploadRefused) as caught:
        read(body, parts=PARTS)
    assert type(caught.value) is UploadRefused
    assert caught.value.part == part


def test_a_request_without_a_body_lacks_its_picture() -> None:
    with pytest.raises(UploadRefused) as caught:
        read(content_type=None)
    assert caught.value.part == "image"


@pytest.mark.parametrize("body", [b"", multipart(("image", PNG))])
def test_what_else_could_be_sent_is_named_where_an_image_is_missing(body: bytes) -> None:
    read = Uploads(100_000).read(request(body, content_type=TYPE if body else None), PARTS, instead="two seeds")
    with pytest.raises(UploadRefused, match="The part is missing; send image and mask, or two seeds"):
        asyncio.run(read)


@pytest.mark.parametrize("content_type", [None, TYPE])
def test_where_no_image_is_wanted_there_is_no_body(content_type: str | None) -> None:
    assert read(parts={}, content_type=content_type) == {}
    sent = request(b"", multipart(("image", PNG)), content_type=content_type)
    with pytest.raises(InvalidRequest, match="Send images or two seeds, not both"):
        asyncio.run(Uploads(100_000).read(sent, {}, instead="two seeds"))


@pytest.mark.parametrize(("content", "kind"), [(b"GIF89a", UnsupportedFormat), (PNG[:-9], BadImage)])
def test_a_picture_that_cannot_be_used_names_its_part(content: bytes, kind: type[ImageRefused]) -> None:
    with pytest.raises(kind) as caught:
        read(multipart(("image", PNG), ("mask", content)), parts=PARTS)
    assert caught.value.part == "mask"


@pytest.mark.parametrize(
    "content_type", ["", "image/png", "application/x-www-form-urlencoded", "multipart/mixed", "\xff"]
)
def test_other_types_of_body_are_refused(content_type: str) -> None:
    with pytest.raises(NotMultipart):
        read(PNG, content_type=content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", TYPE),
        (PNG, TYPE),
        (multipart(("image", PNG))[:-6], TYPE),
        (multipart(("image", PNG), boundary="c"), TYPE),
        (multipart(("image", PNG)), "multipart/form-data"),
        (multipart(("image", PNG)), "multipart/form-data; boundary="),
        (multipart(("image", PNG)), "multipart/form-data; boundary=" + "b" * 300),
        (b"--b\r\n\r\n" + PNG + b"\r\n--b--\r\n", TYPE),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\n" + PNG + b"\r\n--b--\r\n", TYPE),
        (b"--b\r\nA: " + b"b" * 20_000 + b"\r\n" + multipart(("image", PNG))[5:], TYPE),
        (multipart(("image", PNG), filename="x" * 10_000), TYPE),
    ],
    ids=[
        "nothing", "no multipart", "no end", "another boundary", "no boundary", "empty boundary", "long boundary",
        "no head", "no name", "a long header", "a long file name",
    ],
)  # fmt: skip
def test_bodies_that_do_not_keep_to_their_type_are_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedBody):
        read(body, content_type=content_type)


def test_a_body_is_refused_by_its_length_before_any_of_it_is_read() -> None:
    with pytest.raises(BodyTooLarge):
        read(length=100_001)


def test_a_body_that_does_not_say_its_length_is_read_no_further_than_the_limit() -> None:
    """The third chunk is the last one: a fourth would end the iterator of `request`."""
    start = multipart(("image", bytes(60_000)))[:50_000]
    with pytest.raises(BodyTooLarge):
        read(start, start, start)


@given(st.binary(max_size=300))
def test_the_content_of_a_part_stays_as_it_is(content: bytes) -> None:
    content = b"x" + content.replace(b"--b", b"")
    body = multipart(("image", content), ("mask", b"\r\n--" + content + b"\r\n"))
    assert read_form(bytearray(body), TYPE, PARTS) == {"image": content, "mask": b"\r\n--" + content + b"\r\n"}


def test_refused_requests_leave_nothing_behind() -> None:
    uploads = Uploads(10_000)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    for _ in range(2 * MAX_BODIES):
        with pytest.raises(UnsupportedFormat):
            read(multipart(("image", bytes(9_000))), uploads=uploads)
        with pytest.raises(BodyTooLarge):
            read(multipart(("image", bytes(9_000))), b"x" * 9_000, uploads=uploads)
        with pytest.raises(ClientDisconnect):
            asyncio.run(uploads.read(Request(request().scope, gone), PARTS))
    assert read(multipart(("image", PNG)), uploads=uploads) == {"image": (3, 2)}


def test_many_bodies_at_once_are_refused_until_some_are_done() -> None:
    async def scenario() -> None:
        uploads, more = Uploads(10_000), asyncio.Event()
        body = multipart(("image", PNG + bytes(8_000)))

        def slow() -> Request:
            chunks = iter([body, b""])

            async def receive() -> Any:
                chunk = next(chunks)
                if not chunk:
                    await more.wait()
                return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

            return Request(request().scope, receive)

        waiting = [asyncio.create_task(uploads.read(slow(), ONE)) for _ in range(9)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await uploads.read(request(body), ONE)
        assert caught.value.retry_after
        more.set()
        assert await asyncio.gather(*waiting) == [{"image": (3, 2)}] * 9
        assert await uploads.read(request(body), ONE) == {"image": (3, 2)}

    asyncio.run(scenario())


def test_few_pictures_are_decoded_at_once_and_not_too_many_wait() -> None:
    async def scenario() -> None:
        uploads, go, running = Uploads(10_000), threading.Event(), []

        def hold(picture: Sent) -> int:
            running.append(picture)
            go.wait(10)
            return len(running)

        async def upload() -> dict[str, int]:
            return await uploads.read(request(multipart(("image", PNG))), {"image": hold})

        waiting = [asyncio.create_task(upload()) for _ in range(DECODERS + MAX_WAITING)]
        await _until(lambda: len(running) == DECODERS and uploads._decoders.statistics().tasks_waiting == MAX_WAITING)
        with pytest.raises(Overloaded):
            await upload()
        assert len(running) == DECODERS
        go.set()
        assert len(await asyncio.gather(*waiting)) == DECODERS + MAX_WAITING

    asyncio.run(scenario())


async def _until(predicate: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not predicate():
            await asyncio.sleep(0)


def test_the_schema_names_the_parts() -> None:
    schema = request_body("image", json={}, optional=("mask",))["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    assert schema["required"] == ["image"]
    assert set(schema["properties"]) == {"image", "mask"}
    assert request_body("image", json={})["requestBody"]["required"]
    assert not request_body("image", json={}, instead="two seeds")["requestBody"]["required"]
