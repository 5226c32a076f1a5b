from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from difuso.app import breaker as breaking
from difuso.app.breaker import Breaker, guard


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    """Of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        with redis.Redis.from_url(url, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)) as client:
            yield client


def in_thread(breaker: Breaker) -> bool:
    """Whether another thread may ask."""
    passed = []

    def ask() -> None:
        try:
            breaker.check()
        except redis.TimeoutError:
            return
        passed.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return bool(passed)


def test_after_a_timeout_nobody_waits(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaking, "PAUSE_SECONDS", 60)
    breaker = Breaker("Redis", redis.TimeoutError)
    guard(client, breaker)
    with pytest.raises(redis.TimeoutError, match=r"[Tt]imeout"):
        client.ping()
    with pytest.raises(redis.TimeoutError, match="a moment ago"):
        client.ping()
    pipe = client.pipeline()
    pipe.get("key")
    with pytest.raises(redis.TimeoutError, match="a moment ago"):
        pipe.execute()


def test_one_at_a_time_looks_whether_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaking, "PAUSE_SECONDS", 0)
    breaker = Breaker("Redis", redis.TimeoutError)
    breaker.open()
    monkeypatch.setattr(breaking, "PAUSE_SECONDS", 60)
    breaker.check()
    breaker.check()  # the same call asks several times
    assert not in_thread(breaker)
    breaker.open()
    assert not in_thread(breaker)
    breaker.close()
    assert in_thread(breaker)


def test_an_answer_closes_it(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = Breaker("Redis", redis.TimeoutError)
    with redis.Redis.from_url(redis_url) as client:
        guard(client, breaker)
        monkeypatch.setattr(breaking, "PAUSE_SECONDS", 0)
        breaker.open()
        monkeypatch.setattr(breaking, "PAUSE_SECONDS", 60)
        assert client.ping()
        assert in_thread(breaker)
