"""The command line. What is heavy is imported by the command that needs it, so that the others start at once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

from .errors import UserError

log = logging.getLogger(__name__)

app = typer.Typer(
    help="Trains pixel-space diffusion models and serves them over HTTP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate = typer.Typer(help="Measures a model.", no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")

Settings = TypeVar("Settings", bound=BaseSettings)
Value = TypeVar("Value", bound=BaseModel)
ModelsDir = Annotated[
    Path, typer.Option("--models-dir", envvar="DIFUSO_MODELS_DIR", help="Folder of checkpoints.", show_default=True)
]
CHECKPOINTS = Path("checkpoints")


def main() -> None:
    """Runs a command. A mistake that the user can mend ends in one line and exit code 1."""
    try:
        app()
    except UserError as error:
        typer.secho(f"difuso: {error}", err=True, fg=typer.colors.RED)
        sys.exit(1)


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Instead of DIFUSO_PORT (8000).")] = None,
) -> None:
    """Runs everything on this machine: Redis, one worker and the API; Ctrl-C stops it all."""
    from app.settings import ApiSettings
    from worker.settings import WorkerSettings

    from .standalone import serve as serve_standalone

    if port is not None:
        os.environ["DIFUSO_PORT"] = str(port)  # the API process reads it too
    _log_lines("difuso")
    serve_standalone(_settings(ApiSettings), _settings(WorkerSettings))


@app.command()
def api() -> None:
    """Runs the API process."""
    from app.main import serve as serve_api
    from app.settings import ApiSettings

    _log_lines("api")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it would call for Ctrl-C here, which belongs elsewhere
    settings = _settings(ApiSettings)
    log.info("listens on %s port %d", settings.host, settings.port)
    serve_api(settings)


@app.command()
def worker() -> None:
    """Runs a worker process."""
    # Idle OpenMP threads that spin would take the cores from the API; read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worker.main import run
    from worker.settings import WorkerSettings

    _log_lines("worker")
    sys.exit(run(_settings(WorkerSettings)))


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("pictures"),
    n: Annotated[int, typer.Option("-n", help="Number of images.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Network calls for each image; by default the model's own.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddpm, ddim, dpmpp, euler or heun.")] = None,
    spacing: Annotated[
        str | None, typer.Option(help="linspace, leading, trailing, quad, karras, or sections such as 90,60,60,20,20.")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Stochasticity of ddim, 0 to 1.")] = None,
    variance: Annotated[str | None, typer.Option(help="Of ddpm: fixed_small, fixed_large, or the learned one.")] = None,
    clip: Annotated[str | None, typer.Option(help="Of predicted pictures: static, dynamic or none.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of image 0; image i has seed + i. Drawn if not given.")] = None,
    label: Annotated[str | None, typer.Option(help="Class, by name or index.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Of classifier-free guidance; 1 is off.")] = None,
    classifier_scale: Annotated[
        float | None, typer.Option(help="Of guidance by the model's classifier; 0 is off.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of a checkpoint; by default the first.")] = None,
) -> None:
    """Makes pictures without a server: the same ones that POST /generate makes."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from app.parameters import SamplingQuery
    from worker.settings import WorkerSettings

    from .sampling import sample_into

    _log_lines("sample")
    sent = {
        "n": n,
        "steps": steps,
        "sampler": sampler,
        "spacing": spacing,
        "eta": eta,
        "variance": variance,
        "clip": clip,
        "seed": seed,
        "label": label,
        "guidance_scale": guidance_scale,
        "classifier_scale": classifier_scale,
        "model": model,
    }
    for path in sample_into(out, _checked(SamplingQuery, sent, _option), _settings(WorkerSettings)):
        typer.echo(path)


@app.command()
def models(
    folder: ModelsDir = CHECKPOINTS,
    verify: Annotated[bool, typer.Option("--verify", help="Load and check the weights too.")] = False,
) -> None:
    """Lists the checkpoints, and says why one cannot be served."""
    from .listing import print_models

    if not print_models(folder, verify=verify):
        sys.exit(1)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A .pt, .pth, .bin, .ckpt or .safetensors file, or a folder of diffusers or difuso.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default SOURCE's name in --models-dir.")] = None,
    facts: Annotated[
        str | None, typer.Option(help="What the weights do not say: a .json file or a name such as adm-64.")
    ] = None,
    classifier: Annotated[Path | None, typer.Option(help="ADM's noisy classifier, to guide the model.")] = None,
    classifier_facts: Annotated[str | None, typer.Option(help="Likewise, such as adm-classifier-64.")] = None,
    to: Annotated[Literal["difuso", "diffusers"], typer.Option(help="Whose kind of folder to write.")] = "difuso",
    half: Annotated[bool, typer.Option("--half", help="Save float16: half the size, 11 bits of each number.")] = False,
    models_dir: ModelsDir = CHECKPOINTS,
) -> None:
    """Turns a checkpoint of another project into one that difuso serves, or into one for diffusers."""
    from .convert import convert as convert_into
    from .convert import model_name

    convert_into(
        source,
        out or models_dir / model_name(source),
        facts=facts,
        classifier=classifier,
        classifier_facts=classifier_facts,
        to=to,
        half=half,
    )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe that ships with difuso, or a .toml file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default var/runs/RECIPE.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
) -> None:
    """Trains a model; the same command goes on where an interrupted run stopped."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from model import ModelError
    from training.recipe import RecipeError, load_recipe
    from training.trainer import train as run_recipe
    from worker.runner import pick_device
    from worker.settings import WorkerSettings

    _log_lines("train")
    try:
        plan = load_recipe(recipe, changes or ())
        device = pick_device(_settings(WorkerSettings).device)
        run_recipe(plan, out or Path("var/runs") / plan.name, device=str(device))
    except (ModelError, RecipeError) as error:
        raise UserError(str(error)) from error


@evaluate.command()
def bpd(
    model: Annotated[str | None, typer.Option(help="Name of a checkpoint; by default the first.")] = None,
    folder: ModelsDir = CHECKPOINTS,
    data: Annotated[str, typer.Option(help="Folder of pictures, or `faces`: drawn, and never trained on.")] = "faces",
    images: Annotated[int, typer.Option(min=1, help="How many of them.")] = 16,
    steps: Annotated[int | None, typer.Option(help="Of the chain; by default all that the model has.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in one network call.")] = 8,
    seed: Annotated[int, typer.Option(help="Of image 0's noise; image i has seed + i.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for bpd.json and bpd.png.")] = Path("var/evaluation"),
) -> None:
    """Bounds the likelihood of pictures, in bits per dimension: the variational bound and its parts."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worker.settings import WorkerSettings

    from .evaluation import evaluate_bpd

    _log_lines("evaluate")
    written = evaluate_bpd(
        out,
        models_dir=folder,
        model=model,
        data=data,
        count=images,
        steps=steps,
        batch_size=batch,
        seed=seed,
        device=_settings(WorkerSettings).device,
    )
    for path in written:
        typer.echo(path)


def _settings(kind: type[Settings]) -> Settings:
    """Reads settings from the environment."""
    return _checked(kind, {}, _variable)


def _checked(kind: type[Value], content: dict[str, Any], name: Callable[[str], str]) -> Value:
    """Builds a value; what is wrong with it is told in the words of whoever gave it."""
    try:
        return kind(**content)
    except ValidationError as error:
        problems = [f"{name(str(problem['loc'][0]))}: {problem['msg']}" for problem in error.errors()]
        raise UserError("; ".join(problems)) from error


def _variable(field: str) -> str:
    return field if field.isupper() else f"DIFUSO_{field.upper()}"


def _option(field: str) -> str:
    return "-n" if field == "n" else "--" + field.replace("_", "-")


def _log_lines(process: str) -> None:
    """Log lines that say which of the processes on this terminal speaks."""
    logging.basicConfig(format=f"%(asctime)s {process:>6}  %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
