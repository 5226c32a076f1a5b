"""`difuso usage`: what a key has used, or for operators each key."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..drawing.remote_drawing import connected
from ..options import API_KEY
from ..terminal import printable

COUNTS = ("jobs", "images", "image_steps", "device_seconds", "stored_bytes", "units")


def usage(
    server: Annotated[
        str, typer.Option(metavar="URL", help=f"Address of a front end; {API_KEY} holds the key.")
    ] = "http://127.0.0.1:8000",
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day, such as 2026-12-01; the last 31 without it.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day; today without it.")] = None,
    key: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this key; needs an operator's.")] = None,
) -> None:
    """Shows what your key has used on each day, in UTC; an operator's key shows all."""
    with connected(server) as client:
        facts = client.usage(from_=first, to=last, key=key)
    shown = [count for count in COUNTS if count != "units" or "prices" in facts]
    totals = {count: sum(row[count] for row in facts["days"]) for count in shown}
    table = Table("day", "key", title=_text(f"{facts['from']} to {facts['to']}"), show_footer=True)
    for count, text in zip(shown, _texts(totals), strict=True):
        table.add_column(count.replace("_", " "), text, justify="right")
    for row in facts["days"]:
        table.add_row(_text(row["day"]), _text(row.get("key", "")), *_texts({count: row[count] for count in shown}))
    Console().print(table)


def _text(foreign: str) -> Text:
    return Text(printable(foreign))


def _texts(counts: dict[str, Any]) -> list[str]:
    """Returns numbers as people read them: whole ones with separators, others with three digits."""
    return [f"{count:,.3f}" if isinstance(count, float) else f"{count:,}" for count in counts.values()]
