"""/problems: a page about each type of problem, at the path that the `type` of a problem names."""

from html import escape

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from ..errors import JobFailed, ProblemType
from ..http.problems import FAILURES, OTHER, TYPES
from .page import HEADERS

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

router = APIRouter(prefix="/problems", include_in_schema=False)


@router.get("")
async def list_problems() -> HTMLResponse:
    entries = "\n".join(f"    {_entry(kind)}" for _, kind in sorted(TYPES.items()))
    return _page("Problems", f"  <dl>\n{entries}\n  </dl>", '<a href="/docs">API</a>')


@router.get("/{name}")
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
