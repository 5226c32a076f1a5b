"""Runs a job on a server, and writes its images into a folder: the files are those that `sampling` would write."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.kinds.base import Kind, SamplingQuery
from jobs.params import SamplingParams

from .errors import UserError
from .progress import progress
from .sampling import write_images

if TYPE_CHECKING:
    from .client import Client, Result


def ask_server(
    url: str, kind: Kind[Any], query: SamplingQuery, files: Mapping[str, Path | None], folder: Path, api_key: str | None
) -> list[Path]:
    """Runs one job on a server, for as long as it takes; returns the paths of its images.

    Args:
        url: the address of the server.
        files: image files of the request, by the kind's names for them.
        api_key: the API key, if the server has keys.

    Raises:
        UserError: if the server cannot do what is asked, or a file cannot be read.
    """
    try:
        from .client import Client, DifusoError
    except ImportError as error:
        raise UserError(str(error)) from error
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at level info it logs every request
    sent = query.model_dump(mode="json", by_alias=True, exclude_unset=True)
    sent |= {name: str(file) for name, file in files.items() if file is not None}
    try:
        with Client(url, api_key=api_key, timeout=None) as client:
            result = _follow(client, kind.name, sent)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    except DifusoError as error:
        raise UserError(f"{url}: {error}") from error
    facts = result.facts
    task, params = kind.task.model_validate(facts.get("task", {})), SamplingParams.model_validate(facts["params"])
    return write_images(folder, result.pngs, model=facts["model"], task=task, params=params)


def _follow(client: Client, kind: str, sent: dict[str, Any]) -> Result:
    """Makes a job and shows its progress; returns its images. Ctrl-C cancels the job."""
    from .client import Progress

    job = client.submit(kind, **sent)  # type: ignore[call-overload]  # a type checker cannot know the kind
    try:
        with progress(f"{job.facts['model']}, seed {job.facts['params']['seed']}") as show:
            for event in job.events():
                if isinstance(event, Progress):
                    show(event.done / event.total)
        images: Result = job.images()
    except KeyboardInterrupt:
        job.cancel()
        raise
    return images
