"""`difuso init`, `models` and `compile`: a model to begin with, those of a folder, and their code for this machine."""

import sys
from typing import Annotated

import typer

from ..options import ModelsDir, Workers, number_of_workers, read_settings


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new folder, and of the module in it.")],
) -> None:
    """Writes a folder with a network, a source of images, a recipe and a test of your own, to begin with."""
    from .starting import write_starter

    for path in write_starter(name):
        typer.echo(path)
    typer.echo(f"train it:  cd {name}; PYTHONPATH=. DIFUSO_NETWORKS={name} difuso train {name}.toml")
    typer.echo(f"serve it:  PYTHONPATH=. DIFUSO_NETWORKS={name} difuso serve --models-dir var/runs/{name}")


def models(
    models_dir: ModelsDir = None,
    verify: Annotated[bool, typer.Option("--verify", help="Load and check the weights too.")] = False,
    check: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Call the network of one model in every way that is needed.")
    ] = None,
) -> None:
    """Lists the checkpoints, and says why any of them cannot be served."""
    from worker.settings import WorkerSettings

    settings = read_settings(WorkerSettings, models_dir=models_dir)
    if check is not None:
        from .checking import check_model

        fine = check_model(check, settings)
    else:
        from .listing import print_models

        fine = print_models(settings.models_dir, verify=verify, networks=settings.networks)
    if not fine:
        sys.exit(1)


def compile_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a checkpoint.")],
    models_dir: ModelsDir = None,
    workers: Workers = "auto",
) -> None:
    """Compiles a model's network for this machine, for workers that `difuso serve` starts later."""
    from worker.settings import WorkerSettings

    from .compile import compile_for_this_machine

    settings = read_settings(WorkerSettings, models_dir=models_dir)
    compile_for_this_machine(model, settings, number_of_workers(workers))
