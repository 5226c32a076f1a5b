"""The command line. Each command imports its own heavy modules, so that the other commands start quickly."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from difuso.training import recipe_names

from .commands.cli_convert import convert
from .commands.cli_evaluate import evaluate
from .commands.cli_kinds import DRAWING, add_commands
from .commands.fleet import fleet
from .commands.inspecting import inspect
from .commands.listing import models
from .commands.starting import init
from .commands.traffic import traffic
from .commands.usage import usage
from .converting.pulling import pull
from .converting.pushing import push
from .errors import CannotVerify, UserError, machine_errors, require, user_errors
from .logs import log_lines
from .models_folder import open_mirror
from .options import ModelsDir, Workers, number_of_workers, read_settings
from .terminal import printable

if TYPE_CHECKING:
    from difuso.app.settings import ApiSettings
    from difuso.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

# Idle OpenMP threads that spin for long would take the cores from the API; those that sleep at once wake up late.
# GCC's runtime spins for 0.2 ms then, others do not spin. Read once, when torch is loaded.
OPENMP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}

SERVING, MODELS = "Serving", "Models"  # titles of the commands in the help, in addition to DRAWING

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(evaluate, name="evaluate", rich_help_panel=MODELS)


def main() -> None:
    """Runs a command. A mistake that the user can correct ends in one line and exit code 1."""
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
    try:
        with machine_errors(command=next(iter(sys.argv[1:]), None)):
            app()
    except UserError as error:
        typer.secho(f"difuso: {printable(str(error))}", err=True, fg=typer.colors.RED)
        sys.exit(error.status)


def _print_version(wanted: bool) -> None:
    if wanted:
        found = []
        for name in ("difuso", "torch"):
            with suppress(PackageNotFoundError):  # difuso may run from a clone, and a client needs no torch
                found.append(f"{name} {version(name)}")
        typer.echo(", ".join(found))
        raise typer.Exit


@app.callback()
def difuso(
    shown: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the versions, and exit."),
    ] = False,
) -> None:
    """Trains pixel-space diffusion models and serves them over HTTP."""


@app.command(rich_help_panel=SERVING)
def serve(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Replaces DIFUSO_PORT (8000).")] = None,
    workers: Workers = "auto",
    front_ends: Annotated[int | None, typer.Option(min=1, help="Replaces DIFUSO_FRONT_ENDS (1).")] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Runs everything on this machine: Redis, workers and the API; Ctrl-C stops it all."""
    require("standalone", "fastapi", "torch")
    from difuso.app.settings import ApiSettings
    from difuso.worker.settings import WorkerSettings

    from .supervisor.standalone import serve as serve_standalone

    if port is not None:
        os.environ["DIFUSO_PORT"] = str(port)  # the processes that it starts read it too
    if front_ends is not None:
        os.environ["DIFUSO_FRONT_ENDS"] = str(front_ends)
    if models_dir is not None:
        os.environ["DIFUSO_MODELS_DIR"] = models_dir
    count = number_of_workers(workers)
    settings = read_settings(ApiSettings)
    _log("difuso", settings)
    serve_standalone(settings, read_settings(WorkerSettings), count)


@app.command(rich_help_panel=SERVING)
def api(models_dir: ModelsDir = None, fd: Annotated[int | None, typer.Option(hidden=True)] = None) -> None:
    """Runs the API process, or several that share a port (DIFUSO_FRONT_ENDS)."""
    from difuso.app.settings import ApiSettings

    from .supervisor.front_ends import serve as serve_several
    from .supervisor.startup_checks import check_port, open_store

    settings = read_settings(ApiSettings, models_dir=models_dir)
    if fd is None:  # else another front end may have the port
        check_port(settings.host, settings.api_metrics_port, setting="DIFUSO_API_METRICS_PORT")
    open_store(settings.store_url)
    open_mirror(settings)
    _log("api", settings)
    if settings.front_ends > 1 and fd is None:
        serve_several(settings)
        return
    from difuso.app.main import serve as serve_api

    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # at level info it asks for Ctrl-C, as the supervisor does
    log.info("listening on %s port %d", settings.host, settings.port)
    serve_api(settings, fd)


@app.command(rich_help_panel=SERVING)
def worker(
    models_dir: ModelsDir = None,
    models: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Serves only these models; replaces DIFUSO_MODELS.")
    ] = None,
) -> None:
    """Runs a worker process."""
    from difuso.worker.main import run
    from difuso.worker.settings import WorkerSettings

    from .supervisor.startup_checks import check_port, open_store

    settings = read_settings(WorkerSettings, models_dir=models_dir, models=models)
    check_port("0.0.0.0", settings.metrics_port, setting="DIFUSO_METRICS_PORT")
    open_store(settings.store_url)
    open_mirror(settings)
    _log("worker", settings)
    with user_errors():
        sys.exit(run(settings))


@app.command(rich_help_panel=SERVING)
def trainer() -> None:
    """Runs a process that trains what is sent to POST /trainings; needs the extra train."""
    from difuso.worker.settings import WorkerSettings

    from .supervisor.startup_checks import open_store
    from .trainer.main import run

    require("train", "matplotlib", "tensorboard")
    settings = read_settings(WorkerSettings)
    open_store(settings.store_url)
    _log("trainer", settings)
    run(settings)


@app.command(rich_help_panel=SERVING)
def key(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the key's owner.")]) -> None:
    """Makes an API key: shows it on standard error, and prints its line for DIFUSO_API_KEYS_FILE."""
    from difuso.app.http.api_keys import new_key

    try:
        secret, line = new_key(name)
    except ValueError as error:
        raise UserError(
            f"NAME must be 1 to 64 letters, digits and . _ @ -, and begin with a letter or digit, not {name!r}"
        ) from error
    typer.echo(f"The key of {name}, which is shown only once: {secret}", err=True)
    typer.echo(line)


add_commands(app)
app.command(rich_help_panel=SERVING)(fleet)
app.command(rich_help_panel=SERVING)(usage)
app.command(rich_help_panel=DRAWING)(inspect)


@app.command(rich_help_panel=DRAWING)
def verify(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="PNG of a single image that difuso wrote.")],
    uploads: Annotated[
        list[Path] | None,
        typer.Option("--upload", help="File that the picture was made from; may be repeated."),
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Makes a picture again and compares. The exit status is 0 if they are equal, 1 if not, 2 if it is impossible."""
    from difuso.worker.settings import WorkerSettings

    log_lines("verify", level="warning")
    try:
        with machine_errors():
            from .commands.verifying import verify_image

            equal = verify_image(picture, uploads or (), read_settings(WorkerSettings, models_dir=models_dir))
    except UserError as error:
        raise CannotVerify(str(error)) from error
    if not equal:
        sys.exit(1)


app.command(rich_help_panel=MODELS)(init)
app.command(rich_help_panel=MODELS)(models)
app.command(rich_help_panel=MODELS)(convert)
app.command(rich_help_panel=MODELS)(pull)
app.command(rich_help_panel=MODELS)(push)
app.command(rich_help_panel=MODELS)(traffic)


@app.command(rich_help_panel=MODELS)
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help=f"Recipe that ships with difuso ({', '.join(recipe_names())}), a .toml file, or a folder or a .zip of "
            "pictures.",
        ),
    ],
    preset: Annotated[
        Literal["taste", "good", "best"],
        typer.Option(help="For pictures: 32x32 in ten minutes, 64x64 in an hour, or 64x64 overnight."),
    ] = "good",
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="For pictures: how long to train, if not as long as the preset says.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="For pictures: .csv or .jsonl file with a column file_name, and conditions.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default var/runs/RECIPE.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Train a few steps, print the memory and time needed, write nothing.")
    ] = False,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="For pictures: address of a server that trains instead.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --server: name of the model, by default that of the pictures.")
    ] = None,
) -> None:
    """Trains a model. The same command resumes an interrupted run."""
    if server is not None:
        if not ((pictures := Path(recipe)).suffix == ".zip" or pictures.is_dir()) or changes or out:
            raise UserError("with --server give a folder or a .zip of pictures, without --set and --out")
        from .commands.remote_training import train_remotely

        train_remotely(server, pictures, name, preset=preset, minutes=minutes, table=table, dry_run=dry)
        return
    if name is not None:
        raise UserError("--name goes with --server: here --out names the folder of the run")
    from difuso.worker.settings import WorkerSettings

    from .commands.training import print_dry_run, run_pictures, run_recipe

    log_lines("train")
    settings = read_settings(WorkerSettings)
    if (pictures := Path(recipe)).suffix == ".zip" or pictures.is_dir():
        run_pictures(pictures, changes or (), out, settings, preset=preset, minutes=minutes, table=table, dry=dry)
    elif minutes or table:
        raise UserError("--minutes and --table go with pictures: a recipe holds its own, which --set changes")
    elif dry:
        print_dry_run(recipe, changes or (), settings)
    else:
        run_recipe(recipe, changes or (), out, settings)


def _log(process: str, settings: ApiSettings | WorkerSettings) -> None:
    log_lines(process, form=settings.log_format, level=settings.log_level)
