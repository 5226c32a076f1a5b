"""One command for each kind of job, which runs a request without a server or on one.

`difuso sample` also draws any number of images into one .npz file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import Field

from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import Kind
from difuso.jobs.kinds.generate import KIND as GENERATE
from difuso.jobs.kinds.generate import GenerateQuery
from difuso.jobs.params import MAX_IMAGES
from difuso.jobs.queries import SamplingQuery

from ..errors import UserError
from ..logs import log_lines
from ..options import ModelsDir, Server, checked, named, option, read_settings, takes
from ..terminal import printable

if TYPE_CHECKING:
    from ..drawing.sampling import Request

OUT = Path("pictures")
DRAWING = "Images"  # the title of these commands in the help
File = typer.Argument(help="PNG, JPEG or .npy file.")
OptionalFile = typer.Option(help="PNG, JPEG or .npy file, where one is needed.")
Target = typer.Option(
    "--out", "-o", help="Folder for the images, or an .npz or .npy file for all of them; .npz has their trace."
)
SampleTarget = typer.Option("--out", "-o", help="Folder for the images, or an .npz or .npy file for all of them.")

SAMPLE = (
    f"{GENERATE.summary} as POST /{GENERATE.name} does, without a server, or on --server URL.\n\n"
    "With --out FILE.npz any number of images goes into one file, which ADM's evaluator reads, and with --out FILE.npy "
    "into one array. If the command is "
    "interrupted, the same command continues. A server draws them in many jobs of the lowest urgency.\n\n"
    f"With --trace the file holds at most {MAX_IMAGES} images, and the floats of the named network calls."
)


def add_commands(app: typer.Typer) -> None:
    """Adds one command for each kind of job."""
    app.command("sample", help=SAMPLE, rich_help_panel=DRAWING)(_sample)
    for kind in KINDS.values():
        if kind is not GENERATE:
            name = kind.command or kind.name
            text = f"{kind.summary} as POST /{kind.name} does, without a server, or on --server URL."
            app.command(name, help=text, rich_help_panel=DRAWING)(_command(kind, name))


class SampleQuery(GenerateQuery):
    """The parameters of the command: those of the API, for more images."""

    n: int | None = Field(
        default=None,
        ge=1,
        description=f"number of images, at most {MAX_IMAGES} without such a file, or with a trace or noise; "
        "by default 1, or as many as there are seeds or labels",
    )


Noise = typer.Option(help="Noise x_T, a .npy file, for all images or for each; by default that of the seeds.")


@takes(SampleQuery, files=[named("noise", Annotated[Path | None, Noise], None)])
def _sample(
    *,
    query: SampleQuery,
    files: Mapping[str, Path | None],
    out: Annotated[Path, SampleTarget] = OUT,
    server: Server = None,
    models_dir: ModelsDir = None,
) -> None:
    from ..drawing.bulk import make_file
    from ..drawing.places import find_drawing_model
    from ..drawing.sampling import FILES, Request

    log_lines("sample")
    if out.suffix in FILES and not query.trace and query.bits == "8" and not files["noise"]:
        if query.upscale is not None:
            raise UserError(f"--upscale draws into a folder; leave out --out {out.name}")
        if query.webhook is not None:
            raise UserError(f"--webhook is for one job, and {out.name} is drawn in many: leave it out")
        model = find_drawing_model(query.model, server, models_dir=models_dir, tag=query.tag)
        typer.echo(make_file(out, query, model))
        return
    if query.n is not None and query.n > MAX_IMAGES:
        otherwise = (
            "with --trace, --noise or --bits 16" if out.suffix in FILES else "unless --out is an .npz or .npy file"
        )
        raise UserError(f"-n must be at most {MAX_IMAGES}, not {query.n}, {otherwise}")
    one_job = checked(GenerateQuery, query.model_dump(exclude_unset=True), option)
    run(Request(GENERATE, one_job, files), out=out, server=server, models_dir=models_dir)


def _command(kind: Kind[Any], name: str) -> Callable[..., None]:
    replaceable = typer.Argument(help=f"PNG, JPEG or .npy file; needed without {kind.instead}.", show_default=False)
    needed: Any = (Annotated[Path | None, replaceable], None) if kind.instead else (Annotated[Path, File],)
    images = [
        *(named(image, *needed) for image in kind.required),
        *(named(image, Annotated[Path | None, OptionalFile], None) for image in kind.optional),
    ]

    @takes(kind.query, but=kind.implied, files=images)
    def command(
        *,
        query: SamplingQuery,
        files: Mapping[str, Path | None],
        out: Annotated[Path, Target] = OUT,
        server: Server = None,
        models_dir: ModelsDir = None,
    ) -> None:
        from ..drawing.sampling import Request

        log_lines(name)
        run(Request(kind, query, files), out=out, server=server, models_dir=models_dir)

    return command


def run(request: "Request", *, out: Path, server: str | None, models_dir: str | None) -> None:
    """Runs one job, writes its images and prints the paths of its files.

    Args:
        out: a folder, or an .npz or .npy file.
        server: the address of the server that makes them; None makes them here.
        models_dir: the folder or address of models; None means that of the settings.

    Raises UserError if the images cannot be made, or there is no place for them.
    """
    from difuso.worker.settings import WorkerSettings

    from ..drawing.sampling import FILES, NPZ, make_images

    if request.query.trace and out.suffix != NPZ:
        raise UserError("--trace needs --out FILE.npz: no other file holds its floats")
    if out.suffix in FILES and out.exists():
        raise UserError(f"{out} exists: delete it, or name another file")
    if server is None and request.query.webhook is not None:
        raise UserError("--webhook needs --server URL, because it is a server that calls it")
    if server is None:
        paths = make_images(request, out, read_settings(WorkerSettings, models_dir=models_dir))
    else:
        from ..drawing.remote_drawing import ask_server

        paths = ask_server(server, request, out)
    for path in paths:
        typer.echo(printable(str(path)))
