"""docs/settings.md lists every setting, with its default and the processes that read it."""

from __future__ import annotations

import re
from pathlib import Path

import typer
from pydantic_settings import BaseSettings

from difuso import cli
from difuso.app.settings import ApiSettings
from difuso.worker.settings import WorkerSettings

PROCESSES: dict[str, type[BaseSettings]] = {"api": ApiSettings, "worker": WorkerSettings}
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
ROW = re.compile(r"^\| `(?P<name>[A-Z_]+)` \| (?P<default>\S+) \| (?P<processes>[a-z, ]+) \| \S.*\|$", re.MULTILINE)


def in_code(kind: type[BaseSettings]) -> dict[str, str]:
    """Environment variable and default, written as on the page, of every field; some defaults depend on the machine."""
    settings = {}
    for name, field in kind.model_fields.items():
        variable = str(field.validation_alias or f"DIFUSO_{name.upper()}")
        default = "none" if field.default in (None, frozenset()) else f"`{str(field.default).lower()}`"
        settings[variable] = "[below](#places)" if field.default_factory else default
    return settings


def test_the_page_and_the_code_agree() -> None:
    rows = {row["name"]: row for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}
    for process, kind in PROCESSES.items():
        listed = {name: row["default"] for name, row in rows.items() if process in row["processes"].split(", ")}
        assert listed == in_code(kind)


def test_the_page_lists_the_variables_of_serve() -> None:
    options = typer.main.get_command(cli.app).commands["serve"].params  # type: ignore[attr-defined]
    of_processes = {variable for kind in PROCESSES.values() for variable in in_code(kind)}
    own = [option for option in options if option.envvar and option.envvar not in of_processes]
    in_command = {option.envvar: f"`{option.default}`" for option in own}
    rows = ROW.finditer(PAGE.read_text(encoding="utf-8"))
    assert {row["name"]: row["default"] for row in rows if row["processes"] == "serve"} == in_command
