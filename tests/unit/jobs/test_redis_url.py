"""A password from a file reaches redis-py whatever stands in it, over TCP, TLS and a socket."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from difuso.jobs.settings import with_password

PASSWORD = "p@ss:w/rd #?%é"


def address(url: str) -> dict[str, object]:
    """What redis-py makes of a URL."""
    options = redis.ConnectionPool.from_url(url).connection_kwargs
    return {name: options.get(name) for name in ("username", "password", "host", "port", "path", "db")}


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("redis://redis:6379/3", None),
        ("rediss://worker@redis:6379/3", "worker"),
        ("redis://worker:old@[::1]:6379/3", "worker"),
        ("unix:///run/redis.sock?db=3", None),
    ],
)
def test_the_password_is_added_and_all_else_stays(url: str, user: str | None, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    expected = {**address(url), "username": user, "password": PASSWORD}
    assert address(with_password(url, file)) == expected


def test_without_a_file_the_url_is_as_it_was() -> None:
    assert with_password("redis://user:secret@redis", None) == "redis://user:secret@redis"
