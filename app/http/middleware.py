"""The work around every request: its id, log line, metrics and security headers, its origin, and an answer to errors.

A HEAD request goes to the route of GET.
"""

import logging
import re
import time
import uuid
from collections.abc import Collection, Iterable

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from ..errors import AppError, CrossOrigin, UnknownHost
from .metrics import Metrics
from .problems import answer

log = logging.getLogger(__name__)

CLIENT_GONE = 499  # seen by the metrics only, since no client reads the answer

# Headers of every answer, unless its route sets them. Answers are data, so they may load nothing; the page sets its own
# policy. Strict-Transport-Security is left to the proxy that terminates TLS.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})  # in metrics; all others are `other`
PORT = re.compile(r":[0-9]*$")
UNADDRESSED = frozenset({"/healthz", "/readyz"})  # probes ask by IP address

# The request headers of this API that a browser lets pages of other origins send only if they are named.
SENT = ("Authorization", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Prefer", "Priority", "Traceparent")
EXPOSED = (
    *("Content-Location", "ETag", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After"),
    *("Server-Timing", "X-Job-Id", "X-Request-Id"),
)
SHARED_METHODS = ("DELETE", "GET", "HEAD", "POST")

READING = frozenset({"GET", "HEAD", "OPTIONS"})
OWN = frozenset({b"same-origin", b"none"})  # from this server's page, or from the address bar

PAGES = frozenset({"/", "/docs", "/openapi.json", "/models"})
FILES = "/static/"
LISTS = "/jobs"


class RequestMiddleware:
    """The outermost middleware. It is plain ASGI, so that streams and disconnects pass through unchanged.

    Args:
        hosts: the host names, without ports, that requests may be addressed to; None for all. They stop DNS rebinding:
            a foreign page whose host name was made to resolve to this machine has the same origin as this server.
        origins: the other origins whose pages may change something here, such as `https://pics.example`.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, hosts: Collection[str] | None = None, origins: Collection[str] = ()
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status, method = time.perf_counter(), 0, scope["method"]
        request_id = scope.setdefault("state", {})["request_id"] = uuid.uuid4().hex
        bind_contextvars(request_id=request_id)  # for all log lines about this request
        scope["state"]["is_head"] = method == "HEAD"
        routed = {**scope, "method": "GET" if method == "HEAD" else method}  # the server leaves out the body of HEAD

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, own = message["status"], message["headers"]
                said = {name for name, _ in own}
                added = (header for header in HEADERS if header[0] not in said)
                message["headers"] = [*own, (b"x-request-id", request_id.encode()), *added]
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(routed, receive, send_with_headers)
            else:
                await answer(Request(scope), refusal)(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # before its request was complete
        finally:
            self._note(method, routed, status or CLIENT_GONE, time.perf_counter() - started_at)

    def _refusal(self, scope: Scope) -> AppError | None:
        """Returns the error of a request that must not reach a route; None if it may."""
        if self._hosts is not None and scope["path"] not in UNADDRESSED:
            host = next((value for name, value in scope["headers"] if name == b"host"), b"")
            if PORT.sub("", host.decode("latin-1")).lower() not in self._hosts:
                return UnknownHost()
        return CrossOrigin() if is_forged(scope["method"], scope["headers"], self._origins) else None

    def _note(self, method: str, scope: Scope, status: int, seconds: float) -> None:
        """Counts and logs an answered request; at level debug if it only reads and succeeds, as polling does."""
        route = getattr(scope.get("route"), "path", "unmatched")  # with names of parameters, not their values
        self._metrics.http.labels(method if method in METHODS else "other", route, status).observe(seconds)
        level = logging.DEBUG if method in ("GET", "HEAD") and status < 400 else logging.INFO
        if log.isEnabledFor(level):
            caller = scope["state"].get("caller")
            facts = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
            log.log(level, "request", extra={**facts, "key": caller and caller.name})


class Failures:
    """Answers unexpected errors. It is the innermost middleware, so that pages of other origins can read the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            raise
        except Exception as error:
            log.exception("a request failed", extra={"request_id": scope["state"]["request_id"]})
            if started:
                return  # a part of the answer is sent, so the server closes the connection
            await answer(Request(scope), error)(scope, receive, send)


class Compression(GZipMiddleware):
    """Compresses the answers that are the same for everybody, those of PAGES and FILES, where the client accepts gzip.

    So are lists of jobs without an API key, which the page reads again and again. Others are sent uncompressed: images
    and archives are compressed already, events must not wait, and the length of a compressed answer can reveal its
    content: with a key, a list has signed links beside the tags of others.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        is_public = path in PAGES or path.startswith(FILES)
        is_list = path == LISTS and all(name != b"authorization" for name, _ in scope["headers"])
        await (super().__call__ if is_public or is_list else self.app)(scope, receive, send)


def share(app: FastAPI, origins: Collection[str]) -> None:
    """Lets pages of these origins use the application (CORS). Cookies and other credentials of a browser stay out."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=SHARED_METHODS,
        allow_headers=SENT,
        expose_headers=EXPOSED,
    )


def is_forged(method: str, headers: Iterable[tuple[bytes, bytes]], allowed: Collection[str] = ()) -> bool:
    """Returns whether a page of an origin that is not allowed tries to change something (CSRF), as its browser says.

    Without API keys everybody who reaches the port may queue jobs, and so may every page that such a user opens: a
    browser sends a form or a plain POST to any site, and only hides the answer. But it names the page's origin. Other
    programs do not, and a page cannot make them send requests.

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
