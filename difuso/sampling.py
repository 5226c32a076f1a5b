"""`difuso sample`: the jobs of the server without a server, into a folder."""

from __future__ import annotations

from pathlib import Path

from app.errors import InvalidRequest
from app.parameters import SamplingQuery, choose_model, fill_in
from jobs.catalog import read_catalog
from worker.settings import WorkerSettings

from .errors import UserError
from .progress import progress


def sample_into(folder: Path, query: SamplingQuery, settings: WorkerSettings) -> list[Path]:
    """Makes the pictures of a request, named by model and seed; returns their files.

    The API code reads the request and the engine of the worker runs it, so the pictures are the same as from a server.

    Raises:
        UserError: if the model cannot do what is asked.
    """
    try:
        info = choose_model(query.model, read_catalog(settings.models_dir))
        params = fill_in(query, info)
    except InvalidRequest as error:
        raise UserError(f"{error.name}: {error.detail}") from error

    from model import ModelError, load_checkpoint
    from worker.local import generate
    from worker.runner import Runner, pick_device

    try:
        checkpoint = load_checkpoint(settings.models_dir / info.name)
        slots = settings.slots or min(params.n, 8)
        runner = Runner(checkpoint, device=pick_device(settings.device), slots=slots, exact=settings.exact)
        with progress(f"{info.name}, seed {params.seed}") as show:
            pictures: list[bytes] = []
            for event in generate(runner, params):
                if isinstance(event, list):
                    pictures = event
                else:
                    show(event)
    except ModelError as error:
        raise UserError(f"{info.name}: {error}") from error

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{info.name}-{params.seed + index}.png" for index in range(len(pictures))]
    for path, png in zip(paths, pictures, strict=True):
        path.write_bytes(png)
    return paths
