"""Who may ask: a dependency of routers rather than a layer around them, so that what is guarded is what answers.

A layer would have to guess from a path or a Host header which route will answer, and some have guessed wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from hmac import compare_digest

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from .api_keys import ApiKey
from .errors import Unauthorized

SCHEME = "bearer "


class Guard(SecurityBase):
    """Lets in whoever has a key, and notes in the request's state whose it is.

    No key, a wrong one and what is no key at all are one case, which takes the same time: the hash of something is
    compared with every hash there is.
    """

    model = HTTPBearer(description="A key that `difuso key NAME` made.")
    scheme_name = "API key"

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = [(bytes.fromhex(key.sha256), key) for key in keys]

    async def __call__(self, request: Request) -> None:
        sent = hashlib.sha256(_bearer(request)).digest()
        found = None
        for digest, key in self._keys:
            if compare_digest(sent, digest):
                found = key
        if found is None:
            raise Unauthorized
        request.state.caller = found


def _bearer(request: Request) -> bytes:
    """The token of the Authorization header (RFC 6750); nothing where there is not exactly one such header."""
    values = request.headers.getlist("authorization")
    if len(values) != 1 or values[0][: len(SCHEME)].lower() != SCHEME:
        return b""
    return values[0][len(SCHEME) :].strip().encode("latin-1")
