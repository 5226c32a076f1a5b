"""One command for each kind of job, which runs a request without a server or on one; `cli_sample` has another."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.kinds import KINDS
from jobs.kinds.base import Kind
from jobs.kinds.generate import KIND as GENERATE
from jobs.queries import SamplingQuery

from ..errors import UserError
from ..logs import log_lines
from ..options import API_KEY, ModelsDir, Server, read_settings, takes

OUT = Path("pictures")
PATIENCE = 30.0  # seconds for a price: a server that is full for longer is an answer, too
DRAWING = "Images"  # the title of these commands in the help
File = typer.Argument(help="PNG, JPEG, .npy or .npz file.")
OptionalFile = typer.Option(help="PNG, JPEG, .npy or .npz file, where one is needed.")
Target = typer.Option("--out", "-o", help="Folder for the images, or an .npz file for all of them and their trace.")
DryRun = typer.Option(
    "--dry-run", help="Print what the job takes and, with --server, when it would be done; draw nothing."
)


def add_commands(app: typer.Typer) -> None:
    """Adds one command for each kind of job but that of `difuso sample`."""
    for kind in KINDS.values():
        if kind is GENERATE:
            continue
        name = kind.command or kind.name
        text = f"{kind.summary} as POST /{kind.name} does, without a server, or on --server URL."
        app.command(name, help=text, rich_help_panel=DRAWING)(_command(kind, name))


def write_images_of(
    kind: Kind[Any],
    query: SamplingQuery,
    files: Mapping[str, Path | None],
    *,
    out: Path,
    server: str | None,
    models_dir: Path | None,
) -> None:
    """Runs one job, writes its images and prints the paths of its files.

    Args:
        files: image files of the request, by the kind's names for them.
        out: a folder, or an .npz file.
        server: the address of the server that makes them; None makes them here.
        models_dir: the folder of models of this machine; None means that of the settings.

    Raises UserError if the images cannot be made, or there is no place for them.
    """
    from worker.settings import WorkerSettings

    from ..drawing.remote_sampling import ask_server
    from ..drawing.sampling import NPZ, make_images

    if query.trace and out.suffix != NPZ:
        raise UserError("--trace needs --out FILE.npz: PNGs hold no floats")
    if out.suffix == NPZ and out.exists():
        raise UserError(f"{out} exists: delete it, or name another file")
    if server is None:
        paths = make_images(kind, query, files, out, read_settings(WorkerSettings, models_dir=models_dir))
    else:
        paths = ask_server(server, kind, query, files, out, os.environ.get(API_KEY))
    for path in paths:
        typer.echo(path)


def print_price_of(
    kind: Kind[Any],
    query: SamplingQuery,
    files: Mapping[str, Path | None],
    *,
    server: str | None,
    models_dir: Path | None,
) -> None:
    """Prints the price of a job, which is not made; the arguments are those of `write_images_of`.

    Only a server knows how long the job would take.
    """
    from worker.settings import WorkerSettings

    from ..drawing.remote_sampling import arguments, connected
    from ..drawing.sampling import read_job

    if server is None:
        job, _ = read_job(kind, query, files, read_settings(WorkerSettings, models_dir=models_dir))
        typer.echo(f"{_work(job.model, job.params.seed, images=job.answers, image_steps=job.image_steps)}.")
        return
    with connected(server, os.environ.get(API_KEY), timeout=PATIENCE) as client:
        price = client.price(kind.name, **arguments(client, kind, query, files))  # type: ignore[call-overload]  # as for `submit`
    work = _work(price.model, price.params["seed"], images=price.images, image_steps=price.image_steps)
    if price.seconds is None or price.eta_seconds is None:
        typer.echo(f"{work}; the server does not know its speed yet.")
    else:
        times = f"{price.seconds:.1f} s on an idle worker; sent now, it would be done in {price.eta_seconds:.1f} s."
        typer.echo(f"{work}, {times}")


def _work(model: str, seed: int | Sequence[int], *, images: int, image_steps: int) -> str:
    from ..progress import title_of

    count = "1 image takes" if images == 1 else f"{images} images take"
    return f"{title_of(model, seed)}: {count} {image_steps} image-steps"


def _command(kind: Kind[Any], name: str) -> Callable[..., None]:
    def command(
        *,
        query: SamplingQuery,
        out: Path,
        server: str | None,
        models_dir: Path | None,
        dry_run: bool,
        **files: Path | None,
    ) -> None:
        log_lines(name)
        if dry_run:
            print_price_of(kind, query, files, server=server, models_dir=models_dir)
        else:
            write_images_of(kind, query, files, out=out, server=server, models_dir=models_dir)

    replaceable = typer.Argument(
        help=f"PNG, JPEG, .npy or .npz file; needed without {kind.instead}.", show_default=False
    )
    needed = (Annotated[Path | None, replaceable], None) if kind.instead else (Annotated[Path, File],)

    def parameter(of: str, kind_of: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
        return inspect.Parameter(of, inspect.Parameter.KEYWORD_ONLY, annotation=kind_of, default=default)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            parameter("query", SamplingQuery),
            *(parameter(image, *needed) for image in kind.required),
            *(parameter(image, Annotated[Path | None, OptionalFile], None) for image in kind.optional),
            parameter("out", Annotated[Path, Target], OUT),
            parameter("server", Server, None),
            parameter("models_dir", ModelsDir, None),
            parameter("dry_run", Annotated[bool, DryRun], False),
        ]
    )
    return takes(kind.query, but=kind.implied)(command)
