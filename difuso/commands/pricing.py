"""The price of a job, in a sentence; the job is not made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.kinds.base import Kind
from jobs.queries import SamplingQuery
from worker.settings import WorkerSettings

from ..drawing.remote_sampling import arguments, connected
from ..drawing.sampling import read_job
from ..progress import title_of

PATIENCE = 30.0  # seconds: a server that is full for longer is an answer, too


def price_here(
    kind: Kind[Any], query: SamplingQuery, files: Mapping[str, Path | None], settings: WorkerSettings
) -> str:
    """Says the price of a job without a server. Its speed is not known before it runs.

    Args:
        files: image files of the request, by the kind's names for them.

    Raises:
        UserError: if the model cannot do what is asked, or a file cannot be read.
    """
    job, _ = read_job(kind, query, files, settings)
    work = _work(job.model, job.params.seed, images=job.answers, image_steps=job.image_steps)
    return f"{work}."


def price_on_server(
    url: str, kind: Kind[Any], query: SamplingQuery, files: Mapping[str, Path | None], api_key: str | None
) -> str:
    """Says the price of a job of a server, and when it would be done if it were made now.

    Args:
        url: the address of the server.
        files: image files of the request, by the kind's names for them.
        api_key: the API key, if the server has keys.

    Raises:
        UserError: if the server would not accept the job, or a file cannot be read.
    """
    with connected(url, api_key, timeout=PATIENCE) as client:
        price = client.price(kind.name, **arguments(query, files))  # type: ignore[call-overload]  # as for `submit`
    work = _work(price.model, price.params["seed"], images=price.images, image_steps=price.image_steps)
    if price.seconds is None or price.eta_seconds is None:
        return f"{work}; the server does not know its speed yet."
    return f"{work}, {price.seconds:.1f} s on an idle worker; sent now, it would be done in {price.eta_seconds:.1f} s."


def _work(model: str, seed: int | Sequence[int], *, images: int, image_steps: int) -> str:
    count = "1 image takes" if images == 1 else f"{images} images take"
    return f"{title_of(model, seed)}: {count} {image_steps} image-steps"
