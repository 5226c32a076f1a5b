"""The web page at /, and those about the API: /docs, and one for each type of problem, which its `type` names.

They load nothing from other sites.
"""

from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from ..errors import JobFailed, ProblemType
from ..http import revalidation
from ..http.headers import IfNoneMatchHeader
from ..http.problems import FAILURES, OTHER, TYPES

STATIC = Path(__file__).parents[1] / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title}</title>
  <link rel="icon" href="/static/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/static/page.css">
</head>
<body>
  <header><h1>{title}</h1></header>
{body}
  <footer>{links}</footer>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


class _Files(StaticFiles):
    """Files that browsers keep, and ask each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = HEADERS["Cache-Control"]
        del response.headers["Accept-Ranges"]
        return response


files = _Files(directory=STATIC)


@router.get("/")
async def index(if_none_match: IfNoneMatchHeader = None) -> Response:
    return revalidation.file(STATIC / "index.html", known=if_none_match, headers=HEADERS)


@router.get("/docs")
async def docs(if_none_match: IfNoneMatchHeader = None) -> Response:
    return revalidation.file(STATIC / "docs.html", known=if_none_match, headers=HEADERS)


@router.get("/problems")
async def list_problems() -> HTMLResponse:
    entries = "\n".join(f"    {_entry(kind)}" for _, kind in sorted(TYPES.items()))
    return _page("Problems", f"  <dl>\n{entries}\n  </dl>", '<a href="/docs">API</a>')


@router.get("/problems/{name}")
async def get_problem(name: str) -> HTMLResponse:
    if name not in TYPES:
        raise HTTPException(404)
    kind = TYPES[name]
    lines = [f"Type: <code>/problems/{kind.slug}</code>", f"Status: {_statuses(kind)}", escape(kind.detail)]
    if kind is JobFailed.problem:
        lines += [f"<code>{code}</code>, {status}: {escape(detail)}" for code, (status, detail) in FAILURES.items()]
    return _page(kind.title, "\n".join(f"  <p>{line}</p>" for line in lines), '<a href="/problems">All problems</a>')


def _entry(kind: ProblemType) -> str:
    link = f'<a href="/problems/{kind.slug}">{kind.slug}</a>'
    return f"<dt>{link}, {_statuses(kind)}</dt><dd>{escape(kind.title)}. {escape(kind.detail)}</dd>"


def _statuses(kind: ProblemType) -> str:
    if kind is OTHER:
        return "any other"
    found = {status for status, _ in FAILURES.values()} if kind is JobFailed.problem else {kind.status}
    return ", ".join(map(str, sorted(found)))


def _page(title: str, body: str, links: str) -> HTMLResponse:
    return HTMLResponse(PAGE.format(title=escape(title), body=body, links=links), headers=HEADERS)
