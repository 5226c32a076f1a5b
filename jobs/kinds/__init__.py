"""The kinds of jobs. Each has a module here, which no list names, and a row in `worker.kinds`."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from . import base

__all__ = ["KINDS", "AnyTask"]

_MODULES = sorted(found.name for found in iter_modules(__path__) if found.name != "base")
KINDS: dict[str, base.Kind[Any]] = {name: import_module(f".{name}", __name__).KIND for name in _MODULES}

if TYPE_CHECKING:
    AnyTask = base.Task
else:
    AnyTask = Annotated[Union[tuple(kind.task for kind in KINDS.values())], Field(discriminator="kind")]  # noqa: UP007
