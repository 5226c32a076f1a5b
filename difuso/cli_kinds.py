"""One command for each kind of job, which runs a request without a server or on one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.kinds import KINDS
from jobs.kinds.base import Kind, SamplingQuery

from .logs import log_lines
from .options import read_settings, takes

API_KEY = "DIFUSO_API_KEY"  # an environment variable: other programs may see the options of a command
OUT = Path("pictures")
File = typer.Argument(help="PNG or JPEG file.")
OptionalFile = typer.Option(help="PNG or JPEG file, where one is needed.")
Folder = typer.Option("--out", "-o", help="Folder for the images.")
Server = typer.Option(
    metavar="URL", help=f"Address of a server that makes them instead; {API_KEY} holds the API key, if it needs one."
)


def add_commands(app: typer.Typer) -> None:
    """Adds one command for each kind of job."""
    for kind in KINDS.values():
        name = kind.command or kind.name
        app.command(name, help=f"{kind.summary} as POST /{kind.name} does, without a server.")(_command(kind, name))


def _command(kind: Kind[Any], name: str) -> Callable[..., None]:
    def command(*, query: SamplingQuery, out: Path, server: str | None, **files: Path | None) -> None:
        from worker.settings import WorkerSettings

        from .remote_sampling import ask_server
        from .sampling import make_images

        log_lines(name)
        if server is None:
            paths = make_images(kind, query, files, out, read_settings(WorkerSettings))
        else:
            paths = ask_server(server, kind, query, files, out, os.environ.get(API_KEY))
        for path in paths:
            typer.echo(path)

    def parameter(of: str, kind_of: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
        return inspect.Parameter(of, inspect.Parameter.KEYWORD_ONLY, annotation=kind_of, default=default)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            parameter("query", SamplingQuery),
            *(parameter(image, Annotated[Path, File]) for image in kind.required),
            *(parameter(image, Annotated[Path | None, OptionalFile], None) for image in kind.optional),
            parameter("out", Annotated[Path, Folder], OUT),
            parameter("server", Annotated[str | None, Server], None),
        ]
    )
    return takes(kind.query, but=kind.implied)(command)
