"""Signed links to single images, which work without an API key where nobody can send one, such as in `<img>`.

The secret is the hash of the owner's API key, which is in the keys file. So links survive a restart, hold at every
front end, need no setting, and end with the key. Whoever knows a key can make links, but only to the key's own jobs.
"""

import base64
import hmac
import re
import time
from collections.abc import Iterable

from starlette.requests import Request

from ..errors import Unauthorized
from .access import Guard
from .api_keys import ApiKey


def signed_path(key: ApiKey, path: str, expires_at: int) -> str:
    """Returns the path of an image with a signature by its owner's key; it is valid until `expires_at`."""
    return f"{path}?expires={expires_at}&signature={_signature(key, path, expires_at)}"


def signer(keys: Iterable[ApiKey], path: str, expires_at: int, signature: str) -> ApiKey | None:
    """Returns the key by which a path was signed; None if it was not. Takes the same time for each signature."""
    found = None
    for key in keys:
        if hmac.compare_digest(_signature(key, path, expires_at).encode(), signature.encode()):
            found = key
    return found


class LinkGuard(Guard):
    """Lets a request pass that has a valid signature, as one of the owner; without a signature like `Guard`.

    Raises:
        Unauthorized: if the signature is wrong, or its time is over.
    """

    async def __call__(self, request: Request) -> None:
        if "signature" not in request.query_params:
            await super().__call__(request)
            return
        # `request.url` would depend on the Host header.
        expires, signature = request.query_params.get("expires", ""), request.query_params["signature"]
        if not re.fullmatch(r"[1-9][0-9]{0,11}", expires):
            raise Unauthorized
        key = signer(self.keys, request.scope["path"], int(expires), signature)
        if key is None or time.time() >= int(expires):
            raise Unauthorized
        request.state.caller = key


def _signature(key: ApiKey, path: str, expires_at: int) -> str:
    message = f"difuso image link\n{path}\n{expires_at}".encode()
    digest = hmac.digest(bytes.fromhex(key.sha256), message, "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
