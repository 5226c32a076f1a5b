"""Samplers and schedules of other packages, which an operator plugs in.

A plug-in is a module that every process imports at its start. Front ends plan runs too, to price them, so it should not
import torch. The samplers in it join the table of samplers as `module:name`, and its functions make schedules that
configs name in the same way. For a name of any other module nothing is imported.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from ..errors import ForeignError, PlanError
from ..foreign.code import foreign_code, raised_by
from ..foreign.names import MAX_NAME, is_foreign, module_of
from .samplers import SAMPLERS, Sampler
from .samplers.transition import Options, Transition
from .schedule import NoiseSchedule

PLUGGED: dict[str, ModuleType] = {}  # the plug-ins of this process, by the names of their modules
NOT_PLUGGED_IN = "not_plugged_in"  # pydantic's type of the error of a name that no plug-in has


def plug_in(modules: Iterable[str]) -> None:
    """Imports modules of other packages, whose samplers and schedules are known from then on; it may be called again.

    Args:
        modules: their names, such as `mylab.rows`.

    Raises ForeignError if one cannot be imported.
    """
    for name in sorted(modules):
        with foreign_code(name, "be imported"):
            PLUGGED[name] = import_module(name)
        for attribute, sampler in vars(PLUGGED[name]).items():
            if isinstance(sampler, Sampler):
                known_as = f"{name}:{attribute}"
                checked = partial(_checked, known_as, sampler.transitions)
                SAMPLERS[known_as] = replace(sampler, transitions=checked)


def plugged(name: str) -> Callable[..., Any]:
    """Returns the function of a plug-in by its name, `module:function`; raises ForeignError if there is none."""
    if module_of(name) not in PLUGGED:
        raise ForeignError(_missing(name))
    with foreign_code(name, "be found"):
        function: Callable[..., Any] = getattr(PLUGGED[module_of(name)], name.partition(":")[2])
    return function


def _missing(name: str) -> str:
    if module_of(name) in PLUGGED:
        return f"{name} is no sampler: the module has none of this name"
    return (
        f"{name} is code of another package, which is not allowed here: if you trust it, set "
        f"DIFUSO_PLUGINS={module_of(name)} for all of difuso's processes"
    )


def _checked(
    name: str,
    transitions: Callable[[NoiseSchedule, Options], Sequence[Transition]],
    chain: NoiseSchedule,
    options: Options,
) -> list[Transition]:
    """Returns the transitions of a plug-in's sampler; raises PlanError if they are no rows of a plan."""
    try:
        rows = [Transition(*row) for row in transitions(chain, options)]
        numbers = [number for row in rows for number in (*row[1:8], row.g or 0.0, row.h, *row.keep)]
        usable = all(map(math.isfinite, numbers)) and all(row.level in range(len(chain.betas)) for row in rows)
    except PlanError:
        raise
    except Exception as error:
        raise PlanError(f"{name} cannot plan this run: {raised_by(error)}", "sampler") from error
    if not usable:
        raise PlanError(
            f"{name} cannot plan this run: a level is not on its chain, or a number is not finite", "sampler"
        )
    return rows


class KnownSampler(str):
    """The type of a sampler's name in configs and requests: one of ours, or one that is plugged in when it is read."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_known, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": [*SAMPLERS]}


def _known(name: str) -> str:
    if name in SAMPLERS:
        return name
    if is_foreign(name):
        raise PydanticCustomError(NOT_PLUGGED_IN, "{reason}", {"reason": _missing(name[:MAX_NAME])})
    *others, last = map(repr, SAMPLERS)
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
