"""The report of a run: tables and bars for the terminal, one JSON file for programs."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from . import machine


@dataclass(frozen=True)
class Bar:
    """A figure and the value that it must reach."""

    what: str
    value: float
    limit: float
    unit: str
    must_be: Literal["at least", "at most"]

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.must_be == "at least" else self.value <= self.limit

    def __str__(self) -> str:
        verdict = "met   " if self.met else "MISSED"
        return f"  {verdict}  {self.what}: {self.value:.4g} {self.unit} ({self.must_be} {self.limit:.4g})"


class Report:
    """All figures of one run; written after each part, so that an interrupted run leaves its figures.

    Args:
        out: the JSON file.
        settings: the settings of the run.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self._out = out
        self._content: dict[str, Any] = {"machine": machine.facts(), "settings": settings}
        self._bars: list[Bar] = []

    def add(self, name: str, figures: Any) -> None:
        """Notes the figures of one part."""
        self._content[name] = figures
        self._write()

    def bar(self, bar: Bar) -> None:
        """Notes a bar; it is printed at the end."""
        self._bars.append(bar)
        self._content["bars"] = [{**asdict(bar), "met": bar.met} for bar in self._bars]
        self._write()

    def close(self) -> None:
        """Prints the bars, and where the file is."""
        if self._bars:
            print("\nbars:")
        for bar in self._bars:
            print(bar)
        print(f"\nwritten to {self._out}")

    def _write(self) -> None:
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._out.write_text(json.dumps(self._content, indent=2) + "\n")


def say(text: str) -> None:
    """Reports progress on standard error; the figures go to standard output."""
    print(f"-- {text}", file=sys.stderr, flush=True)


def show(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; its first column holds names, the others numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(_text, row))
    print()
    Console(width=120).print(table)


def quantile(values: Sequence[float], q: float) -> float:
    """Returns the smallest value that is not exceeded by a share `q` of all values; NaN if there are none."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)] if values else math.nan


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
