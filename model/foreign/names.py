"""The names of classes and functions of other packages, such as `mylab.nets:Denoiser`, and those that may be imported.

A config or a recipe may come from anybody, and an import runs code. So nothing is imported unless the operator has
allowed its module. Front ends read this module too.
"""

import re
from collections.abc import Collection
from typing import Annotated, Any, TypeAlias, TypeGuard

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from ..errors import CheckpointError

NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
MAX_NAME = 256  # characters


def is_foreign(name: Any) -> TypeGuard[str]:
    """Returns whether this is meant to be the name of another package's class or function."""
    return isinstance(name, str) and ":" in name


def module_of(name: str) -> str:
    """Returns the module in a name."""
    return name.partition(":")[0]


def check_name(name: str) -> None:
    """Checks a name; raises ValueError if it is not `package.module:Name`."""
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise ValueError(f"{name[:MAX_NAME]!r} must be package.module:Name, such as mylab.nets:Denoiser")


def _own(name: str) -> str:
    if not is_foreign(name):
        raise PydanticCustomError("own", "yours, package.module:function")
    check_name(name)
    return name


Own: TypeAlias = Annotated[str, AfterValidator(_own)]
"""The type of a function's name in configs and recipes."""


def check_allowed(name: str, allowed: Collection[str]) -> None:
    """Raises CheckpointError if the module of a name is neither an allowed one nor below one."""
    module = module_of(name)
    if not any(f"{module}.".startswith(f"{each}.") for each in allowed):
        raise CheckpointError(
            f"{name} is code of another package, which is not allowed here: if you trust it, set "
            f"DIFUSO_NETWORKS={module} for difuso's processes"
        )
