"""Options of several commands; those that are parameters of a request are defined in the API's queries."""

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from difuso.model.errors import ForeignError
from difuso.model.plans.plugins import plug_in

from .errors import UserError

if TYPE_CHECKING:
    from difuso.jobs.settings import SharedSettings

Value = TypeVar("Value", bound=BaseModel)
Settings = TypeVar("Settings", bound="SharedSettings")
ModelsDir = Annotated[
    str | None,
    typer.Option(
        "--models-dir",
        metavar="FOLDER",
        envvar="DIFUSO_MODELS_DIR",
        help="Folder of models, or an address where `difuso push` put them; by default checkpoints, or without a model "
        "there the one that comes with difuso.",
    ),
]


def _new_folder(place: str | Path) -> Path:
    if "://" in str(place):
        raise UserError(f"{place} is no folder: name one with --models-dir, then `difuso push` it to the address")
    return Path(place)


NewModelsDir = Annotated[
    Path,
    typer.Option(
        "--models-dir",
        metavar="FOLDER",
        envvar="DIFUSO_MODELS_DIR",
        help="Folder of models, for the new one too.",
        parser=_new_folder,
    ),
]
API_KEY = "DIFUSO_API_KEY"  # an environment variable: other programs may see the options of a command
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help=f"Address of a server that draws instead; {API_KEY} holds the API key, if it needs one."
    ),
]


def takes(
    kind: type[BaseModel], *, but: Collection[str] = (), files: Collection[inspect.Parameter] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a command that takes a request as `query`: the request's parameters become its options, `but` some.

    Required parameters become arguments, which come first. If the request has `files`, the command gets those by name.
    """
    fields = {name: field for name, field in kind.model_fields.items() if name not in but}
    hints = {**get_type_hints(kind), "conditions": list[str] | None, "sampler": str | None}  # NAME:VALUE
    added = [_parameter(name, field, hints[name]) for name, field in fields.items()]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            sent = {fields[name].alias or name: values.pop(name) for name in fields}
            given = {name: value for name, value in sent.items() if value is not None}
            if files:
                values["files"] = {each.name: values.pop(each.name) for each in files}
            command(query=checked(kind, given, option), **values)

        own = inspect.signature(command, eval_str=True).parameters.values()
        all_named = [*added, *files, *(each for each in own if each.name not in ("query", "files"))]
        parameters = sorted(all_named, key=lambda each: each.default is not each.empty)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def checked(kind: type[Value], content: dict[str, Any], name: Callable[[str], str]) -> Value:
    """Builds a value from its fields; raises UserError if one is missing, unknown or wrong.

    `name` returns a field's name as the user knows it.
    """
    try:
        return kind(**content)
    except ValidationError as error:
        problems = [f"{name(str(problem['loc'][0]))}: {_said(kind, problem)}" for problem in error.errors()]
        raise UserError("; ".join(problems)) from error


def _said(kind: type[BaseModel], problem: ErrorDetails) -> str:
    """Returns the error of a field, without pydantic's words for programmers."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "string_pattern_mismatch":
        return f"cannot be {problem['input']!r} ({kind.model_fields[str(problem['loc'][0])].description})"
    return problem["msg"]


def read_settings(kind: type[Settings], **given: str | Path | None) -> Settings:
    """Reads settings from the environment, except those that are given, and imports the plug-ins that they name.

    Raises UserError if a setting is wrong.
    """
    options = {name: value for name, value in given.items() if value is not None}
    settings = checked(kind, options, lambda field: field if field.isupper() else f"DIFUSO_{field.upper()}")
    try:
        plug_in(settings.plugins)
    except ForeignError as error:
        raise UserError(f"DIFUSO_PLUGINS: {error}") from error
    return settings


def option(field: str) -> str:
    """Returns the command line's name for a parameter of the API."""
    return "-n" if field == "n" else "--" + field.replace("_", "-")


def named(name: str, hint: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """Returns a parameter of a command that is given by its name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _parameter(name: str, field: FieldInfo, hint: Any) -> inspect.Parameter:
    """Makes an option or an argument. An option that is not given is None, so that the request's default applies."""
    text = f"{field.description[:1].upper()}{field.description[1:]}." if field.description else None
    if field.is_required():
        return named(name, Annotated[hint, typer.Argument(help=text)])
    shown = " ".join(map(str, field.default)) if isinstance(field.default, list) else str(field.default)
    unset = field.default is None or field.default is False or field.default == []
    described = typer.Option(option(field.alias or name), help=text, show_default=False if unset else shown)
    return named(name, Annotated[hint | None, described], None)


Workers = Annotated[
    str,
    typer.Option(
        envvar="DIFUSO_WORKERS",
        metavar="auto|N",
        help="Number of workers; auto is one per GPU, or on a CPU one per 8 cores, two for two cores, at least one.",
    ),
]


def number_of_workers(option: str) -> int | None:
    """Returns the number of the option `Workers`; None for `auto`. Raises UserError if it is neither."""
    if option == "auto":
        return None
    if not (option.isdecimal() and int(option)):
        raise UserError(f"--workers and DIFUSO_WORKERS must be auto or a number from 1 on, not {option!r}")
    return int(option)
