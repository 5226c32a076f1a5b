"""The URL of a Redis names one server, or Sentinels and what they watch."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncPool
from redis.sentinel import SentinelConnectionPool

from difuso.jobs.redis.addresses import connect, connect_async

URL = "sentinel://worker:p%40ss@a:1,b,[::1]:3/queue/2?sentinel_password=other&client_name=mine"


@pytest.mark.parametrize("is_async", [False, True])
def test_sentinels_are_asked_for_the_master_of_a_name(is_async: bool) -> None:
    client = connect_async(URL, socket_timeout=5) if is_async else connect(URL, socket_timeout=5)
    pool = client.connection_pool
    assert isinstance(pool, AsyncPool if is_async else SentinelConnectionPool)
    assert (pool.service_name, pool.is_master) == ("queue", True)
    found = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in found] == [("a", 1), ("b", 26379), ("::1", 3)]
    assert {(each["password"], each["socket_timeout"], each.get("client_name")) for each in found} == {
        ("other", 1.0, None)
    }
    wanted = {"username": "worker", "password": "p@ss", "db": 2, "client_name": "mine", "socket_timeout": 5}
    assert {name: pool.connection_kwargs[name] for name in wanted} == wanted


def test_with_tls_all_connections_have_it() -> None:
    pool = connect("sentinels://a/queue").connection_pool
    assert issubclass(pool.connection_class, redis.SSLConnection)
    assert isinstance(pool, SentinelConnectionPool)
    (sentinel,) = pool.sentinel_manager.sentinels
    assert issubclass(sentinel.connection_pool.connection_class, redis.SSLConnection)


def test_any_other_url_is_one_of_redis_py() -> None:
    assert connect("redis://a:1/3").connection_pool.connection_kwargs["db"] == 3
    client = connect_async("redis://a:1/3")
    assert client.connection_pool.connection_kwargs["port"] == 1
    asyncio.run(client.aclose())


@pytest.mark.parametrize("url", ["sentinel://a:1", "sentinel:///queue", "sentinel://a,/queue", "sentinel://a/queue/x"])
def test_a_url_without_name_or_hosts_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sentinel://HOST:26379,HOST:26379/NAME/0"):
        connect(url)
