"""What happens around every request: an id, a measurement, safe headers, and an answer whatever goes wrong."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .problems import answer

log = logging.getLogger(__name__)

CLIENT_GONE = 499  # nobody reads this status; only the metrics count it

# What holds unless a route says otherwise. Answers are data; only the page may load anything, and says so itself.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class RequestMiddleware:
    """The outermost layer of ours; plain ASGI, so that streams and disconnects pass through untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, status = time.perf_counter(), 0
        request_id = scope.setdefault("state", {})["request_id"] = uuid.uuid4().hex

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # in the middle of its own request
        except Exception as error:
            log.exception("request %s failed", request_id)
            if status:
                return  # the answer is half sent: the server closes the connection
            await answer(Request(scope), error)(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - started_at
            self._metrics.http_request(scope["method"], _template(scope), status or CLIENT_GONE, seconds)


def _template(scope: Scope) -> str:
    """The route's path with its parameters' names in place of their values."""
    return getattr(scope.get("route"), "path", "unmatched")
