"""`difuso train --server`: a server trains, and this command shows what its trainer says."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import make_archive
from tempfile import TemporaryDirectory
from typing import Any

import typer

from ..client import Client, NotFound
from ..client.trainings import LOOK_SECONDS, OVER
from ..drawing.remote_drawing import connected
from ..errors import UserError
from ..models_folder import check_name, name_from
from ..terminal import printable


def train_remotely(server: str, pictures: Path, name: str | None, **options: Any) -> None:
    """Sends pictures to a server, and shows their training until it has ended; one that was begun is only shown.

    Raises UserError if the server refuses, or the training fails.
    """
    name = name or name_from(pictures.resolve().name.removesuffix(".zip"))
    check_name(name)
    with connected(server) as client:
        facts = None if options["dry_run"] else _begun(client, name, options)
        if facts is None:
            with _archive(pictures) as archive:
                facts = client.train(archive, name=name, **options)
            if "advice" in facts:
                typer.echo(printable(facts["advice"]), err=True)
        try:
            facts = _show(client, facts)
        except KeyboardInterrupt as error:
            again = f"the same command shows it again, and the page's tab Train stops it: {server}/#train"
            raise UserError(f"the training of {name} goes on at the server; {again}") from error
    if facts["state"] == "failed":
        raise UserError(f"the training has failed: {facts['reason']}")
    if not options["dry_run"]:
        how = "has ended" if facts["state"] == "succeeded" else "was stopped"
        typer.echo(f"the training of {name} {how}; draw with it:  difuso sample --server {server} --model {name}")


@contextmanager
def _archive(pictures: Path) -> Iterator[Path]:
    """Yields an archive as it is, and a folder as one."""
    if not pictures.is_dir():
        yield pictures
        return
    with TemporaryDirectory() as folder:
        yield Path(make_archive(str(Path(folder) / "pictures"), "zip", pictures))


def _begun(client: Client, name: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the training of a model that was begun before, and says so; None if there is none.

    Raises UserError if that one was begun with other options.
    """
    try:
        found = client.trainings()["trainings"]
    except NotFound as error:
        raise UserError("this server does not train: DIFUSO_TRAINING turns that on, see docs/settings.md") from error
    facts = next((each for each in found if each["name"] == name and not each.get("dry_run")), None)
    if facts is not None:
        for option in ("preset", "minutes"):
            if (was := facts.get(option)) != options[option]:
                how = f"without --{option}" if was is None else printable(f"with --{option} {was}")
                raise UserError(f"{name} was begun before {how}: give the same, or another --name")
        told = f"{name} was begun before, on the dataset {facts['dataset']}; for other pictures give another --name"
        typer.echo(printable(told), err=True)
        facts = client.training(facts["id"])
    return facts


def _show(client: Client, facts: dict[str, Any]) -> dict[str, Any]:
    """Prints the states of a training and the lines of its log as they come; returns it as it has ended."""
    state, last = "", ""
    while True:
        if facts["state"] != state:
            state = facts["state"]
            typer.echo(f"the training is {printable(state)}", err=True)
        lines = facts.get("log", "").splitlines()
        for line in lines[lines.index(last) + 1 :] if last in lines else lines:
            typer.echo(printable(line), err=state not in OVER)
        last = lines[-1] if lines else last
        if state in OVER:
            return facts
        time.sleep(LOOK_SECONDS)
        facts = client.training(facts["id"])
