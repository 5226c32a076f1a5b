"""`difuso fleet`: the workers and the queues of a server, for operators, who may hold them back."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..client.operations import Operation
from ..drawing.remote_drawing import connected
from ..options import API_KEY
from ..terminal import printable


def fleet(
    server: Annotated[
        str, typer.Option(metavar="URL", help=f"Address of a front end; {API_KEY} holds the key of an operator.")
    ] = "http://127.0.0.1:8000",
    pause: Annotated[list[str] | None, typer.Option(metavar="MODEL", help="Let the jobs of a model wait.")] = None,
    resume: Annotated[list[str] | None, typer.Option(metavar="MODEL", help="Let them run again.")] = None,
    cordon: Annotated[list[str] | None, typer.Option(metavar="WORKER", help="Let a worker claim nothing more.")] = None,
    uncordon: Annotated[list[str] | None, typer.Option(metavar="WORKER", help="Let it claim again.")] = None,
    first: Annotated[list[str] | None, typer.Option(metavar="JOB", help="Move a job to the head of its queue.")] = None,
    cancel: Annotated[list[str] | None, typer.Option(metavar="JOB", help="Cancel a job.")] = None,
) -> None:
    """Shows the workers and queues of a server, after what is asked of them; needs an operator's key, if any."""
    asked: dict[Operation, list[str] | None] = {
        "pause": pause,
        "resume": resume,
        "cordon": cordon,
        "uncordon": uncordon,
        "first": first,
    }
    with connected(server) as client:
        for what, names in asked.items():
            for name in names or ():
                client.operate(what, name)
        for job in cancel or ():
            client.job(job).cancel()
        _show(client.fleet())


def _show(facts: dict[str, Any]) -> None:
    console = Console()
    for title, rows in (("workers", _workers(facts["workers"])), ("queues", _queues(facts))):
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*(Text(printable(cell)) for cell in row))
        console.print(table)


def _workers(workers: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("worker", "host", "difuso", "model", "version", "image-steps/s")]
    for each in workers:
        name = each["name"] + (" (cordoned)" if each["cordoned"] else "")
        about = name, each["host"], each["difuso"]
        for model in each["models"]:
            state = f"{model['rate']:.0f}" if model.get("rate") else model.get("reason") or "loading"
            rows.append((*about, model["name"], model.get("version") or "", state))
            about = "", "", ""
    return rows


def _queues(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("model", "version", "urgency", "waiting", "running")]
    for each in facts["queues"]:
        name = each["model"] + (" (paused)" if each["model"] in facts["paused"] else "")
        rows.append((name, each.get("version", ""), *(str(each[key]) for key in ("urgency", "queued", "running"))))
    there = {each["model"] for each in facts["queues"]}
    return rows + [(f"{name} (paused)", "", "", "0", "0") for name in facts["paused"] if name not in there]
