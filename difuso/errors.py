"""Errors that the user of the command line can correct, and the extras that packages are missing from."""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

# The extras of commands; all others draw, which the extra `worker` is for.
OF_COMMANDS = {
    "api": "api",
    "evaluate": "evaluate",
    "key": "api",
    "pull": "hub",
    "serve": "standalone",
    "train": "train",
}
OF_MODULES = {"datasets": "huggingface", "opentelemetry": "otel", "s3fs": "s3"}  # that no command always needs


class UserError(Exception):
    """Printed as one line, without a traceback, before the command ends with `status`; the message says what to do."""

    status = 1


class CannotVerify(UserError):
    """An image cannot be compared with its recipe; the exit status 1 says that they differ."""

    status = 2


class RunDiverged(UserError):
    """A training run became NaN; what it saved before is good."""

    status = 3


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


def _missing(module: str, extra: str) -> UserError:
    return UserError(f"this command needs {module}, which is not installed: {installing(extra)}")


@contextmanager
def machine_errors(command: str | None = None) -> Iterator[None]:
    """Turns missing packages and files, and missing permissions, inside the block into UserError.

    Other errors are mistakes of the program, and keep their traceback. The extra that is named is the command's, unless
    the module has its own.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module in ("", "difuso"):
            raise
        raise _missing(module, OF_MODULES.get(module) or OF_COMMANDS.get(command or "", "worker")) from error
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
