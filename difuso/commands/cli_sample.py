"""`difuso sample`: images from noise, in a folder, or any number of them in one .npz file."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from jobs.kinds.generate import KIND, GenerateQuery
from jobs.params import MAX_IMAGES

from ..errors import UserError
from ..logs import log_lines
from ..options import ModelsDir, Server, checked, option, takes
from .cli_kinds import OUT, DryRun, print_price_of, write_images_of

HELP = (
    f"{KIND.summary} as POST /{KIND.name} does, without a server, or on --server URL.\n\n"
    "With --out FILE.npz any number of images goes into one file, which ADM's evaluator reads. If the command is "
    "interrupted, the same command continues. A server draws them in many jobs of the lowest urgency.\n\n"
    f"With --trace the file holds at most {MAX_IMAGES} images, and the floats of the named network calls."
)
Target = typer.Option("--out", "-o", help="Folder for the images, or an .npz file for all of them.")


class SampleQuery(GenerateQuery):
    """The parameters of the command: those of the API, for more images."""

    n: int | None = Field(
        default=None,
        ge=1,
        description=f"number of images, at most {MAX_IMAGES} without an .npz file or with a trace; by default 1, or as "
        "many as there are seeds or labels",
    )


@takes(SampleQuery)
def sample(
    *,
    query: SampleQuery,
    out: Annotated[Path, Target] = OUT,
    server: Server = None,
    models_dir: ModelsDir = None,
    dry_run: Annotated[bool, DryRun] = False,
) -> None:
    from ..drawing.bulk import make_file
    from ..drawing.drawing import find_drawing_model
    from ..drawing.sampling import NPZ

    log_lines("sample")
    if out.suffix == NPZ and not query.trace and query.bits == "8":
        if dry_run:
            raise UserError("--dry-run tells about one job; leave out --out FILE.npz, which takes many")
        if query.upscale is not None:
            raise UserError("--upscale draws into a folder; leave out --out FILE.npz")
        model = find_drawing_model(query.model, server, models_dir=models_dir, tag=query.tag)
        typer.echo(make_file(out, query, model))
        return
    if query.n is not None and query.n > MAX_IMAGES:
        otherwise = "with --trace or --bits 16" if out.suffix == NPZ else "unless --out is an .npz file"
        raise UserError(f"-n must be at most {MAX_IMAGES}, not {query.n}, {otherwise}")
    one_job = checked(GenerateQuery, query.model_dump(exclude_unset=True), option)
    if dry_run:
        print_price_of(KIND, one_job, {}, server=server, models_dir=models_dir)
    else:
        write_images_of(KIND, one_job, {}, out=out, server=server, models_dir=models_dir)
