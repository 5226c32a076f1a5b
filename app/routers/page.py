"""The web page at /, and /docs about the API. They load nothing from other sites."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from ..http.headers import IfNoneMatchHeader, known_file

STATIC = Path(__file__).parents[1] / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    """Files that browsers keep, and ask each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = HEADERS["Cache-Control"]
        return response


files = _Files(directory=STATIC)


@router.get("/")
async def index(if_none_match: IfNoneMatchHeader = None) -> Response:
    return known_file(STATIC / "index.html", known=if_none_match, headers=HEADERS)


@router.get("/docs")
async def docs(if_none_match: IfNoneMatchHeader = None) -> Response:
    return known_file(STATIC / "docs.html", known=if_none_match, headers=HEADERS)
