"""API keys on requests: a dependency of routers, so that it guards exactly the routes that answer.

A middleware would have to guess the route from a path or a Host header, and some middlewares have guessed wrong.
"""

import hashlib
from collections.abc import Sequence
from hmac import compare_digest

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from starlette.requests import Request

from ..errors import Unauthorized
from .api_keys import ApiKey


class Guard(SecurityBase):
    """Lets a request pass only with a known API key, which it stores as `request.state.caller`.

    A missing, a malformed and an unknown key get the same answer after the same time: in each case a hash is compared
    with the hashes of all keys.

    Raises:
        Unauthorized: if the request has no known API key.
    """

    model = HTTPBearer(description="An API key made by `difuso key NAME`.")
    scheme_name = "ApiKey"

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)

    async def __call__(self, request: Request) -> None:
        sent = hashlib.sha256(_bearer(request)).digest()
        found = None
        for key in self.keys:
            if compare_digest(sent, bytes.fromhex(key.sha256)):
                found = key
        if found is None:
            raise Unauthorized
        request.state.caller = found


def _bearer(request: Request) -> bytes:
    """Returns the token of the Authorization header (RFC 6750); empty unless there is exactly one such header."""
    values = request.headers.getlist("authorization")
    scheme, token = get_authorization_scheme_param(values[0] if len(values) == 1 else None)
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
