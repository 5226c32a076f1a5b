"""Errors that the user of the command line can correct, and the extras that packages are missing from."""

import json
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution, metadata, requires
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

# Several extras have the same packages, so a command names its own; all others draw, which the extra `worker` is for.
OF_COMMANDS = {
    "api": "api",
    "evaluate": "evaluate",
    "key": "api",
    "pull": "hub",
    "serve": "standalone",
    "train": "train",
}


class UserError(Exception):
    """Printed as one line, without a traceback, before the command ends with `status`; the message says what to do."""

    status = 1


class CannotVerify(UserError):
    """An image cannot be compared with its recipe; the exit status 1 says that they differ."""

    status = 2


@contextmanager
def user_errors(about: str | None = None) -> Iterator[None]:
    """Turns the errors of models, recipes, requests, images and devices inside the block into UserError.

    The message begins with `about`, such as the name of a model.
    """
    from difuso.evaluation.errors import EvaluationError  # here, so that the command line starts quickly
    from difuso.jobs.errors import ImageRefused, RequestRefused
    from difuso.model.errors import ForeignError, ModelError
    from difuso.training.errors import RecipeError
    from difuso.worker.settings import DeviceMissing

    try:
        yield
    except DeviceMissing as error:  # whatever model the block is about
        raise UserError(str(error)) from error
    except ForeignError as error:
        traceback.print_exception(error.__cause__)  # of code of the user's own
        raise UserError(str(error) if about is None else f"{about}: {error}") from error
    except (EvaluationError, ImageRefused, ModelError, RecipeError, RequestRefused) as error:
        raise UserError(str(error) if about is None else f"{about}: {error}") from error


def require(extra: str, *modules: str) -> None:
    """Raises UserError unless the modules of an extra are installed, for a command whose processes need them."""
    for module in modules:
        if find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str | None, extra: str) -> UserError:
    return UserError(f"this command needs {module}, which is not installed: {installing(extra)}")


@contextmanager
def machine_errors(command: str | None = None) -> Iterator[None]:
    """Turns missing packages and files, and missing permissions, inside the block into UserError.

    Other errors are mistakes of the program, and keep their traceback. The command decides which extra is named.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (extra := extra_with(error.name or "", command)) is None:
            raise
        raise _missing(error.name, extra) from error
    except OSError as error:
        if error.filename is None:  # such as a connection that breaks
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from error


def installing(extra: str) -> str:
    """Returns the command that installs an extra: difuso is not on PyPI, so pip needs its origin (PEP 610)."""
    origin = json.loads(distribution("difuso").read_text("direct_url.json") or "{}")
    url = origin.get("url", "")
    if origin.get("dir_info", {}).get("editable"):
        return f"pip install -e '{Path(url2pathname(urlsplit(url).path))}[{extra}]'"
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    return f"pip install 'difuso[{extra}]{' @ ' if url else ''}{url}'"


def extra_with(module: str, command: str | None = None) -> str | None:
    """Returns the extra that brings a module, by its full name, preferably the command's own; None if none does."""
    name = module.partition(".")[0].replace("_", "-")
    extras: list[str] = metadata("difuso").get_all("Provides-Extra") or []
    for extra in (OF_COMMANDS.get(command or "", "worker"), *extras):
        if any(f"{package}-".startswith(f"{name}-") for package in _packages(extra)):  # dicebear is a part of several
            return extra
    return None


def _packages(extra: str) -> Iterator[str]:
    """Yields the packages of an extra, and those of the extras that it contains."""
    for requirement in requires("difuso") or ():
        needed, _, condition = requirement.partition("; extra == ")
        if condition != f'"{extra}"':
            continue
        if contained := re.fullmatch(r"difuso\[(.+)\]", needed):
            for other in contained[1].split(","):
                yield from _packages(other)
        else:
            yield from re.findall(r"^[\w.-]+", needed)
