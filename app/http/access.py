"""API keys and signed links on requests: dependencies of routers, so that they guard exactly the routes that answer.

A middleware would have to guess the route from a path or a Host header, and some middlewares have guessed wrong.

A signed link to an image works without an API key where nobody can send one, such as in `<img>`. Its secret is the hash
of the API key that asked for it, which is in the keys file. So links survive a restart, hold at every front end, need
no setting, and end with the key. Whoever knows a key can make links, but only to what the key itself shows.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from starlette.requests import Request

from ..errors import Unauthorized
from .api_keys import ApiKey, KeyRing


class Guard(SecurityBase):
    """Lets a request pass only with a known API key, which it stores as `request.state.caller`.

    A missing, a malformed and an unknown key get the same answer, `Unauthorized`, after the same time.
    """

    model = HTTPBearer(description="An API key made by `difuso key NAME`.")
    scheme_name = "ApiKey"

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def __call__(self, request: Request) -> None:
        sent = hashlib.sha256(_bearer(request)).hexdigest()
        request.state.caller = self._key(sent, lambda key: key.sha256)

    def _key(self, sent: str, of: Callable[[ApiKey], str]) -> ApiKey:
        """Returns the key of which this was sent, after the same time for each; raises Unauthorized if it is none."""
        found = None
        for key in self._ring.keys:
            if hmac.compare_digest(sent.encode(), of(key).encode()):
                found = key
        if found is None:
            raise Unauthorized
        return found


def _bearer(request: Request) -> bytes:
    """Returns the token of the Authorization header (RFC 6750); empty unless there is exactly one such header."""
    values = request.headers.getlist("authorization")
    scheme, token = get_authorization_scheme_param(values[0] if len(values) == 1 else None)
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def signed_path(key: ApiKey, path: str, expires_at: int) -> str:
    """Returns the path of an image with a signature by a key; it is valid until `expires_at`."""
    return f"{path}?expires={expires_at}&signature={_signature(key, path, expires_at)}"


class LinkGuard(Guard):
    """Lets a request pass that has a valid signature, as one of the key that signed it; else like `Guard`."""

    async def __call__(self, request: Request) -> None:
        if "signature" not in request.query_params:
            await super().__call__(request)
            return
        # `request.url` would depend on the Host header.
        expires, signature = request.query_params.get("expires", ""), request.query_params["signature"]
        if not re.fullmatch(r"[1-9][0-9]{0,11}", expires) or time.time() >= int(expires):
            raise Unauthorized
        path = request.scope["path"]
        request.state.caller = self._key(signature, lambda key: _signature(key, path, int(expires)))


def _signature(key: ApiKey, path: str, expires_at: int) -> str:
    message = f"difuso image link\n{path}\n{expires_at}".encode()
    digest = hmac.digest(bytes.fromhex(key.sha256), message, "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
