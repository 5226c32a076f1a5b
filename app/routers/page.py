"""The web page at /, and /docs about the API. They load nothing from other sites."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from ..http.headers import IfNoneMatchHeader, known_content, known_file

STATIC = (Path(__file__).parents[1] / "static").resolve()
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}
IMPORT = re.compile(r'^(?:import|export) [^;]*?from "(\.[^"]+)"', re.MULTILINE)
PRELOADS = "  <!-- preloads -->\n"  # where index.html has them

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
    return known_content(page_with_preloads(), known=if_none_match, headers=HEADERS, media_type="text/html")


@cache
def page_with_preloads() -> str:
    """Returns the page, which preloads the modules of the form, and with low priority those that stand beside it."""
    first = _loaded_with(STATIC / "page.js", {})
    later = [path for path in _loaded_with(STATIC / "views.js", {}) if path not in first]
    urgent = [_preload(path) for path in first if path.name != "page.js"]
    links = "".join([*urgent, *(_preload(path, ' fetchpriority="low"') for path in later)])
    return (STATIC / "index.html").read_text("utf-8").replace(PRELOADS, links)


def _loaded_with(module: Path, found: dict[Path, None]) -> dict[Path, None]:
    """Adds a module to those found, and all that the browser loads with it."""
    if module not in found:
        found[module] = None
        for name in IMPORT.findall(module.read_text("utf-8")):
            _loaded_with((module.parent / name).resolve(), found)
    return found


def _preload(path: Path, priority: str = "") -> str:
    return f'  <link rel="modulepreload" href="/static/{path.relative_to(STATIC).as_posix()}"{priority}>\n'


@router.get("/docs")
async def docs(if_none_match: IfNoneMatchHeader = None) -> Response:
    return known_file(STATIC / "docs.html", known=if_none_match, headers=HEADERS)
