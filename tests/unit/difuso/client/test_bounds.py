"""What the client reads of an answer: so many bytes, in so much time, and nothing that unpacks to more."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import json
import re
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from difuso import AsyncClient, Client
from difuso.client import DifusoError, Job, Result, results
from difuso.client.bodies import MAX_EVENT, Body
from difuso.client.events import Preview
from difuso.client.flows import MAX_JSON, Call
from difuso.client.reading import MAX_MEMBERS, Archive, arrays_of, understood
from difuso.jobs.contract import JOB_ID
from difuso.jobs.kinds import KINDS
from difuso.jobs.params import MAX_IMAGES, MODEL_NAME
from difuso.model.folders.version import VERSION
from tests.hostile_server import ID, PNGS, npz_of, stored
from tests.pictures import header

FACTS = {"id": ID, "state": "succeeded"}
MANIFEST = {"images": [{"file": "0.png"}]}


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that repeats a piece for ever, and counts its bytes."""

    def __init__(self, piece: bytes, first: bytes = b"") -> None:
        self.sent = 0
        self._pieces = itertools.chain([first], itertools.repeat(piece))

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.sent += len(piece)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def asked(response: httpx.Response, work: Callable[[Client], Any] = Client.models) -> Any:
    with Client("http://difuso", transport=httpx.MockTransport(lambda request: response)) as client:
        return work(client)


def followed(client: Client) -> list[Any]:
    return list(Job(client, {"id": ID, "state": "queued"}).events())


def test_an_answer_without_an_end_is_read_up_to_its_bound() -> None:
    body = Endless(b" " * (1 << 20))
    with pytest.raises(DifusoError, match="GET /models has more than 32 MiB"):
        asked(httpx.Response(200, stream=body))
    assert body.sent <= MAX_JSON + (1 << 20)

    async def ask() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(500, stream=Endless(b" " * (1 << 20))))
        async with AsyncClient("http://difuso", transport=transport) as client:
            await client.models()

    with pytest.raises(DifusoError, match="more than 1 MiB"):
        asyncio.run(ask())


def test_an_answer_that_comes_too_slowly_is_a_time_out() -> None:
    body = Body(Call("GET", "/models", within=-1.0), httpx.Response(200))
    with pytest.raises(httpx.ReadTimeout):
        body.add(b"x")


def test_nothing_is_unpacked_on_the_way() -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    response = httpx.Response(200, stream=Endless(b"", bomb), headers={"Content-Encoding": "gzip"})
    response.request = httpx.Request("GET", "http://difuso/models")
    body = Body(Call("GET", "/models"), response)
    for piece in itertools.islice(response.iter_bytes(), 1):
        body.add(piece)
    assert body.answer().content == bomb
    with Client("http://difuso") as client:
        assert client._http.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 65_536, b"data: x\n" * 8192, b": x\r\n" * 8192])
def test_an_event_without_an_end_is_read_up_to_its_bound(piece: bytes) -> None:
    body = Endless(piece)
    with pytest.raises(DifusoError, match="more than 16 MiB"):
        asked(httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=body), followed)
    assert body.sent <= MAX_EVENT + 2 * len(piece)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_any_number_of_short_events_is_read(end: str) -> None:
    ping = f": {'x' * 65_000}{end}{end}".encode()
    last = f"event: succeeded{end}data: {json.dumps(FACTS)}{end}{end}".encode()

    class Stream(Endless):
        def __iter__(self) -> Iterator[bytes]:
            yield from itertools.repeat(ping, 2 * MAX_EVENT // len(ping))
            yield last

    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Stream(b""))
    assert [event.facts for event in asked(response, followed)] == [FACTS]


def test_the_charset_of_events_is_theirs_and_unpacks_nothing() -> None:
    event = f"event: succeeded\ndata: {json.dumps(FACTS)}\n\n".encode()
    head = {"Content-Type": "text/event-stream; charset=zlib_codec"}
    assert [each.facts for each in asked(httpx.Response(200, headers=head, content=event), followed)] == [FACTS]


def overlapping(content: bytes, members: int) -> bytes:
    """A zip whose members are all the same bytes of the file."""
    name, crc = b"0.png", zlib.crc32(content)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, crc, len(content), len(content), 5, 0) + name + content
    entries = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, crc, len(content), len(content), 5, 0, 0, 0, 0, 0, 0)
        + b"%05d" % index
        for index in range(members)
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, members, members, len(entries), len(local), 0)
    return local + entries + end


def read_all(content: bytes) -> list[bytes]:
    archive = Archive(content)
    return [archive.read(name) for name in archive.names]


def test_an_archive_holds_no_more_than_its_own_bytes() -> None:
    assert read_all(stored({"0.png": b"a", "1.png": b"b"})) == [b"a", b"b"]
    for bomb in (
        stored({"0.png": bytes(1 << 20)}, zipfile.ZIP_DEFLATED),
        stored({"0.png": bytes(1 << 20)}, zipfile.ZIP_BZIP2),
        stored({f"{index}.png": b"" for index in range(MAX_MEMBERS + 1)}),
    ):
        with pytest.raises(ValueError, match="does not say"):
            read_all(bomb)
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        read_all(overlapping(bytes(100_000), 100))


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"manifest.json": b"[]"},
        {"manifest.json": b'{"images": 3}'},
        {"manifest.json": b'{"images": [{}]}'},
        {"manifest.json": json.dumps(MANIFEST).encode()},
        {"manifest.json": b"[" * 200_000},
        {"manifest.json": json.dumps({"images": MANIFEST["images"] * (MAX_IMAGES + 1)}).encode(), "0.png": b""},
        {"manifest.json": json.dumps({"images": MANIFEST["images"] * 8}).encode(), "0.png": b"x" * 4096},
    ],
)
def test_an_archive_of_something_else_is_an_error_of_the_client(files: dict[str, bytes]) -> None:
    with pytest.raises(DifusoError, match=r"^it is not from difuso"), understood("it"):
        Result.read(stored(files), FACTS)


def npy(shape: object, dtype: str, content: bytes) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def test_arrays_are_as_large_as_their_bytes() -> None:
    numbers = np.arange(6, dtype=np.uint16).reshape(2, 3)
    found = arrays_of(npz_of(arr_0=numbers, x_t=np.asfortranarray(numbers.astype(np.float32))))
    assert np.array_equal(found["arr_0"], numbers)
    assert np.array_equal(found["x_t"], numbers)
    assert found["arr_0"].flags.writeable
    for file in (
        npy((1 << 40,), "|u1", b""),
        npy((2, -1), "|u1", b""),
        npy((True, 3), "|u1", bytes(3)),
        npy((2,), "|O", bytes(16)),
        npy((2,), "|V0", b""),
        npy((2,), "|u1", bytes(3)),
        b"\x93NUMPY\1\0\xff\xff" + b"(" * 65_535,
    ):
        with pytest.raises(DifusoError), understood("it"):
            arrays_of(stored({"arr_0.npy": file}))
    for name in ("../evil", "/evil", "a b", "\x1b[2J"):
        with pytest.raises(DifusoError), understood("it"):
            arrays_of(stored({f"{name}.npy": npy((1,), "|u1", b"a")}))


@pytest.mark.parametrize(
    "file", [header(40_000, 40_000), header(9000, 9000), b"", b"II*\0" + bytes(64), PNGS[0][:50]], ids=len
)
def test_only_whole_pngs_of_a_size_that_models_draw_are_decoded(file: bytes) -> None:
    with pytest.raises(DifusoError):
        _ = Result([file], {}, FACTS).images
    with pytest.raises(DifusoError):
        _ = Preview(0, 0, file).image


def test_the_forms_of_names_are_those_of_the_server() -> None:
    """The client imports nothing of it."""
    assert f"^{results.JOB_ID}$" == JOB_ID
    assert f"^{results.MODEL_NAME}$" == MODEL_NAME
    assert f"^{results.VERSION}$" == VERSION
    assert all(re.fullmatch(results.KIND, kind) for kind in KINDS)


def test_a_job_whose_id_is_a_path_is_not_asked_for() -> None:
    for id in ("../models", "//evil.example/x", f"{ID}\n", f"{ID}?x", 7, None):
        with pytest.raises(DifusoError, match="is not from difuso"):
            asked(httpx.Response(202, json={"id": id, "state": "queued"}), lambda client: client.submit("generate"))
