"""Runs a job on a server, and writes its images: the files are those that `sampling` would write."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.kinds.base import Kind
from jobs.params import SamplingParams
from jobs.queries import SamplingQuery
from jobs.told import as_table, named_values, parted
from model.conditions import Conditions
from model.folders.config_json import RESERVED, read_conditions

from ..errors import UserError, user_errors
from ..progress import progress, title_of
from .sampling import check_place, write_images

CONNECT_SECONDS = 5.0  # for the first answer of a server

if TYPE_CHECKING:
    from ..client import Client, Result


def ask_server(
    url: str, kind: Kind[Any], query: SamplingQuery, files: Mapping[str, Path | None], out: Path, api_key: str | None
) -> list[Path]:
    """Runs one job on a server, for as long as it takes; otherwise like `make_images`.

    Raises UserError if the server cannot do what is asked, or a file cannot be read.
    """
    check_place(out)
    with connected(url, api_key, timeout=None) as client:
        result = _follow(client, kind.name, arguments(client, kind, query, files))
    facts = result.facts
    task, params = kind.task.model_validate(facts.get("task", {})), SamplingParams.model_validate(facts["params"])
    return write_images(out, result.pngs, result.pixels, result.trace, model=facts["model"], task=task, params=params)


@contextmanager
def connected(url: str, api_key: str | None, *, timeout: float | None) -> Iterator[Client]:
    """Yields a client of a server, and turns its errors inside the block into UserError.

    A server that has answered once may be away for a while, because it may be restarting. A server that has never
    answered is taken to be at another address. A call may take `timeout` seconds in all; None sets no limit.
    """
    from ..client import Client, DifusoError

    logging.getLogger("httpx").setLevel(logging.WARNING)  # at level info it logs every request
    _check_answers(url)
    try:
        with Client(url, api_key=api_key, timeout=timeout) as client:
            yield client
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    except DifusoError as error:
        raise UserError(f"{url}: {error}") from error


def _check_answers(url: str) -> None:
    """Raises UserError unless a server answers at an address, with any answer."""
    import httpx  # here, because commands without a server work without it

    try:
        httpx.get(f"{url}/healthz", timeout=CONNECT_SECONDS)
    except httpx.ReadTimeout:
        return  # it is there, and busy
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise UserError(
            f"no server answers at {url} ({error}): check the address, and that difuso runs there"
        ) from error


def arguments(
    client: Client, kind: Kind[Any], query: SamplingQuery, files: Mapping[str, Path | None]
) -> dict[str, Any]:
    """Returns a request as the client's methods take it; `files` are its image files by the kind's names for them.

    The server is asked which conditions of the model are images, whose values are paths. Raises UserError if one
    of them is told several.
    """
    sent = query.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if sent.pop("condition", None):
        found = client.models()
        models = {model["name"]: model for model in found["models"]}
        drawing = (name for name, model in models.items() if "condition" in model)  # from an image
        chosen = query.model or (min(drawing, default=None) if kind.task.needs_condition else found.get("default"))
        with user_errors():
            rest, images = parted(query.condition, conditions_of(models.get(chosen or "", {})))
            told = as_table(named_values(rest)) | {name: Path(file) for name, file in images.items()}
        sent["conditions"] = told
    return sent | {name: str(file) for name, file in files.items() if file is not None}


def conditions_of(facts: Mapping[str, Any]) -> Conditions:
    """Returns the conditions of a model as GET /models shows it."""
    return read_conditions({name: each for name, each in facts.get("conditions", {}).items() if name not in RESERVED})


def _follow(client: Client, kind: str, sent: dict[str, Any]) -> Result:
    """Makes a job and shows its progress; returns its images. Ctrl-C cancels the job."""
    from ..client import Progress

    job = client.submit(kind, **sent)  # type: ignore[call-overload]  # a type checker cannot know the kind
    try:
        with progress(title_of(job.facts["model"], job.facts["params"]["seed"])) as show:
            for event in job.events():
                if isinstance(event, Progress):
                    show(event.done / event.total)
        images: Result = job.images()
    except KeyboardInterrupt:
        job.cancel()
        raise
    return images
