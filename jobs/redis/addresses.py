"""The Redis of a URL: one server, or the one that Sentinels name, also after they have chosen another.

    redis://user:password@host:6379/0                              rediss: with TLS, unix://path?db=0: a socket
    sentinel://user:password@host-a:26379,host-b:26379/NAME/0      the master that Sentinels watch under NAME

What stands behind a question mark are options of redis-py, for the Sentinels with `sentinel_` before them, such as
`sentinel_password`. With `sentinels:` in place of `sentinel:` all connections have TLS.
"""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

SCHEMES = ("sentinel", "sentinels")
OF_SENTINELS = "sentinel_"
PORT, ANSWER_SECONDS = 26379, 1.0  # of a Sentinel, after which the next one is asked


def connect(url: str, **options: Any) -> redis.Redis:
    """Returns a client of a URL, which connects when it is used; `options` are those of redis-py.

    Raises ValueError if the URL has no such form.
    """
    if urlsplit(url).scheme not in SCHEMES:
        return redis.Redis.from_url(url, **options)
    client: redis.Redis = _master(url, redis.sentinel.Sentinel, Retry(NoBackoff(), 0), options)
    return client


def connect_async(url: str, **options: Any) -> redis.asyncio.Redis:
    """Does `connect` for asyncio."""
    if urlsplit(url).scheme not in SCHEMES:
        return redis.asyncio.Redis.from_url(url, **options)
    client: redis.asyncio.Redis = _master(url, redis.asyncio.sentinel.Sentinel, AsyncRetry(NoBackoff(), 0), options)
    return client


def _master(url: str, sentinel_class: Any, retry: Any, options: dict[str, Any]) -> Any:
    parts, asked = urlsplit(url), parse_qsl(urlsplit(url).query)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = map(unquote, credentials.partition(":"))
    name, _, number = parts.path.strip("/").partition("/")
    addresses = [(each.hostname, each.port or PORT) for each in (urlsplit(f"//{host}") for host in hosts.split(","))]
    if not name or not all(host for host, _ in addresses) or not (number or "0").isdecimal():
        raise ValueError("a URL of Sentinels has the form sentinel://HOST:26379,HOST:26379/NAME/0")
    tls = {"ssl": True} if parts.scheme == "sentinels" else {}
    of_sentinels = {key.removeprefix(OF_SENTINELS): value for key, value in asked if key.startswith(OF_SENTINELS)}
    of_master = {key: value for key, value in asked if not key.startswith(OF_SENTINELS)}
    seconds = {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    sentinel = sentinel_class(addresses, sentinel_kwargs={**tls, **seconds, "retry": retry, **of_sentinels})
    login = {"username": user or None, "password": password or None, "db": int(number or 0)}
    return sentinel.master_for(name, **tls, **of_master, **login, **options)
