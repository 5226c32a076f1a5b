"""Sets up httpx for both clients: the address, the key, and the requests of a `Call`."""

from typing import Any

import httpx

from .flows import Call

CONNECT_SECONDS = 5.0


def arguments(url: str, api_key: str | None) -> dict[str, Any]:
    """Returns the arguments of a client of httpx. Redirects are not followed: they would lose the body of a POST."""
    return {
        "base_url": url,
        "headers": {} if api_key is None else {"Authorization": f"Bearer {api_key}"},
        "follow_redirects": False,
    }


def request_of(http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
    """Returns the request of a call. There is no limit for a connection to come free: many calls may wait for one."""
    limits = httpx.Timeout(call.seconds, connect=min(CONNECT_SECONDS, call.seconds), pool=None)
    return http.build_request(
        call.method,
        call.path,
        params=call.params,
        headers=call.headers,
        files={name: (name, content) for name, content in call.files.items()},
        timeout=limits,
    )
