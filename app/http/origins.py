"""Pages of other sites: recognises their forged requests, and lets pages of allowed origins in (CORS).

A request is forged (CSRF) if a page of another site would change something by it.

Without API keys everybody who reaches the port may queue jobs. So may every page that such a user opens: a browser
sends a form or a plain POST to any site, and only hides the answer. But the browser names the page's origin. Other
programs do not, and a page cannot make them send requests.
"""

from collections.abc import Collection, Iterable

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from .headers import ANSWERED

# The request headers of this API that a browser lets pages of other origins send only if they are named.
SENT = ("Authorization", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Prefer", "Priority", "Traceparent")
METHODS = ("DELETE", "GET", "HEAD", "POST")

READING = frozenset({"GET", "HEAD", "OPTIONS"})
OWN = frozenset({b"same-origin", b"none"})  # from this server's page, or from the address bar


def share(app: FastAPI, origins: Collection[str]) -> None:
    """Lets pages of these origins use the application (CORS). Cookies and other credentials of a browser stay out."""
    app.add_middleware(
        CORSMiddleware, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=tuple(ANSWERED)
    )


def is_forged(method: str, headers: Iterable[tuple[bytes, bytes]], allowed: Collection[str] = ()) -> bool:
    """Returns whether a page of an origin that is not allowed tries to change something, according to the browser.

    Sec-Fetch-Site decides if it is present: then the browser has compared the origins, and a proxy's changes to the
    Host header do not matter. Browsers omit it if the address is neither HTTPS nor this machine. Then Origin must name
    the host and port of the Host header.

    Args:
        headers: names in lower case and values, as in ASGI.
        allowed: the other origins whose pages may do so.
    """
    if method in READING:
        return False
    sent = dict(headers)
    site, origin = sent.get(b"sec-fetch-site"), sent.get(b"origin")
    if origin is not None and origin.decode("latin-1") in allowed:
        return False
    if site is not None:
        return site not in OWN
    return origin is not None and origin.lower().partition(b"://")[2] != sent.get(b"host", b"").lower()
