"""`difuso convert`: turns a checkpoint of another project into a folder that difuso serves, or one for diffusers."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from difuso.jobs.settings import CHECKPOINTS
from difuso.model.errors import CheckpointError
from difuso.model.folders.config import Precision
from difuso.model.guidance import UNGUIDED, Guidance

from ..errors import UserError, user_errors
from ..models_folder import call_once, check_name, name_from, print_summary
from ..options import NewModelsDir, read_settings


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A .pt, .pth, .bin, .ckpt or .safetensors file, or a folder of diffusers or difuso."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default named after SOURCE, in --models-dir.")
    ] = None,
    facts: Annotated[
        str | None,
        typer.Option(help="Facts that the weights do not show: a .json file, a config.json, or a name such as adm-64."),
    ] = None,
    classifier: Annotated[Path | None, typer.Option(help="File of ADM's noisy classifier, to guide the model.")] = None,
    classifier_facts: Annotated[
        str | None, typer.Option(help="Facts about the classifier: a .json file or a name such as adm-classifier-64.")
    ] = None,
    weaker: Annotated[
        Path | None, typer.Option(help="Folder of a weaker version of the model, to guide away from its errors.")
    ] = None,
    guidance_scale: Annotated[
        float, typer.Option(min=0, max=100, help="Scale of guidance by --weaker for requests that name none.")
    ] = 1.0,
    guidance_low: Annotated[
        float | None, typer.Option(help="Noise level, as sigma, above which --guidance-scale acts.")
    ] = None,
    guidance_high: Annotated[
        float | None, typer.Option(help="Noise level, as sigma, up to which --guidance-scale acts.")
    ] = None,
    to: Annotated[Literal["difuso", "diffusers"], typer.Option(help="Format of the folder.")] = "difuso",
    half: Annotated[bool, typer.Option("--half", help="Save float16: half the size, 11 bits of precision.")] = False,
    precision: Annotated[Precision | None, typer.Option(help="Number format in which workers compute.")] = None,
    models_dir: NewModelsDir = CHECKPOINTS,
) -> None:
    """Converts a checkpoint of another project to a folder that difuso serves, or to one for diffusers."""
    from difuso.model import load_checkpoint
    from difuso.worker.settings import WorkerSettings

    from ..converting.checkpoints import read, with_classifier, with_weaker, write

    with user_errors():
        guidance = Guidance(guidance_scale, guidance_low, guidance_high)
    if weaker is None and guidance != UNGUIDED:
        raise UserError("--guidance-scale needs a weaker network: name its folder with --weaker")
    out = out or models_dir / name_from(source.name if source.is_dir() else source.stem)
    if out.exists():
        raise UserError(f"{out} exists already: delete it, or name another folder with --out")
    if to == "difuso":
        check_name(out.name)
    elif classifier is not None or weaker is not None:
        option = "weaker" if classifier is None else "classifier"
        raise UserError(f"a diffusers folder has no place for a second network: leave out --{option}")
    elif precision is not None:
        raise UserError("a diffusers folder has no place for a number format: leave out --precision")
    networks = read_settings(WorkerSettings).networks
    with user_errors(source.name):
        checkpoint = read(source, facts, networks)
    if classifier is not None:
        with user_errors(classifier.name):
            checkpoint = with_classifier(checkpoint, classifier, classifier_facts)
    if weaker is not None:
        with user_errors(weaker.name):
            checkpoint = with_weaker(checkpoint, load_checkpoint(weaker, networks=networks), guidance)
    with user_errors(source.name):
        if precision is not None:
            checkpoint = checkpoint.in_precision(precision)
        write(checkpoint, out, to=to, half=half)
        del checkpoint  # frees gigabytes before the folder is loaded
        try:
            checkpoint = load_checkpoint(out, networks=networks)
            call_once(checkpoint)
        except CheckpointError:  # nobody could draw with it
            shutil.rmtree(out)
            raise
    print_summary(out, checkpoint)
