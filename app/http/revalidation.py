"""Requests that revalidate a copy: an answer that a client already has, by If-None-Match, is not sent again."""

from pathlib import Path

from starlette.responses import FileResponse, Response


def matches(known: str | None, tag: str) -> bool:
    """Returns whether an If-None-Match header names the tag."""
    tags = [found.strip().removeprefix("W/") for found in (known or "").split(",")]
    return "*" in tags or tag in tags


def file(path: Path, *, known: str | None, headers: dict[str, str], media_type: str | None = None) -> Response:
    """Returns a file, or 304; `known` is the If-None-Match header. Ranges of it are not sent."""
    response = FileResponse(path, headers=headers, media_type=media_type, stat_result=path.stat())
    del response.headers["Accept-Ranges"]
    tag = response.headers["ETag"]
    return Response(status_code=304, headers={**headers, "ETag": tag}) if matches(known, tag) else response
