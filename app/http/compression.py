"""Compression of answers that are the same for everybody: the pages with their files, and the OpenAPI description."""

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

PAGES = frozenset({"/", "/docs", "/openapi.json"})
FILES = "/static/"


class Compression:
    """Compresses these answers where the client accepts gzip.

    Others are sent uncompressed: images and archives are compressed already, events must not wait, and the length of a
    compressed answer can reveal its content.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._compressed = GZipMiddleware(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        chosen = self._compressed if path in PAGES or path.startswith(FILES) else self._app
        await chosen(scope, receive, send)
