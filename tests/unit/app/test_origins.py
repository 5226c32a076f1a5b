"""Whose page asks, as browsers say it."""

from __future__ import annotations

import pytest

from difuso.app.http.middleware import is_forged

METHODS = ("POST", "DELETE", "PUT")
HOST = (b"host", b"pics.example:8000")
OWN = (b"origin", b"http://pics.example:8000")


def site(value: str) -> tuple[bytes, bytes]:
    return b"sec-fetch-site", value.encode()


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],  # a program
        [HOST, OWN],
        [HOST, (b"origin", b"http://PICS.example:8000")],
        [HOST, OWN, site("same-origin")],
        [HOST, site("none")],
        [(b"host", b"inner:8000"), (b"origin", b"https://pics.example"), site("same-origin")],  # a proxy in between
    ],
)
def test_our_page_and_programs_may_change_things(headers: list[tuple[bytes, bytes]]) -> None:
    assert not any(is_forged(method, headers) for method in METHODS)


def test_pages_of_allowed_origins_may_change_things() -> None:
    allowed = {"https://page.example", "http://localhost:5173"}
    for origin, forged in (
        (b"https://page.example", False),
        (b"http://localhost:5173", False),
        (b"http://page.example", True),
        (b"https://page.example:8443", True),
        (b"https://page.example.evil.example", True),
        (b"null", True),
        (b"", True),
    ):
        for more in ([], [site("cross-site")], [site("same-site")]):
            assert is_forged("POST", [HOST, (b"origin", origin), *more], allowed) is forged, origin
    assert is_forged("POST", [HOST, site("cross-site")], allowed)


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, site("cross-site")],
        [HOST, site("same-site")],
        [HOST, site("")],
        [HOST, OWN, site("cross-site")],
        [HOST, (b"origin", b"null")],
        [HOST, (b"origin", b"http://pics.example")],
        [HOST, (b"origin", b"http://pics.example:8001")],
        [HOST, (b"origin", b"http://pics.example:8000.evil.example")],
        [HOST, (b"origin", b"http://evil.example")],
        [(b"origin", b"http://evil.example")],
        [HOST, (b"origin", b"")],
    ],
)
def test_pages_from_elsewhere_may_not_change_anything_but_may_read(headers: list[tuple[bytes, bytes]]) -> None:
    assert all(is_forged(method, headers) for method in METHODS)
    assert not is_forged("GET", headers)
