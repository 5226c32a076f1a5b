"""The settings of a sampling run, and the defaults for settings that a request leaves open."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypedDict, cast

from ..errors import PlanError
from .clipping import ClipMode
from .samplers import SAMPLERS, Variance
from .spacing import LISTED, listed_timesteps, steps_in


class Choices(TypedDict, total=False):
    """The settings that a request chooses; None, like a missing key, leaves a setting open."""

    sampler: str | None
    steps: int | None
    spacing: str | None
    eta: float | None
    variance: Variance | None
    clip: ClipMode | None


@dataclass(frozen=True)
class Settings:
    """The settings of a sampling run; see `make_plan`."""

    sampler: str
    steps: int
    spacing: str
    eta: float
    variance: Variance
    clip: ClipMode

    @property
    def choices(self) -> Choices:
        """The settings as a request that chooses all of them."""
        return cast("Choices", vars(self))


def settle(choices: Choices, own: Settings, *, timesteps: int) -> Settings:
    """Completes the settings that a request chooses.

    A model's own settings apply to its own sampler. Another sampler gets the spacing that suits it, and eta 0. A list
    of timesteps applies to its own sampler and number of steps only, and not to runs that begin below its last one.

    Args:
        choices: the settings that the request chooses.
        own: the model's own settings.
        timesteps: number of timesteps that the run chooses from: T, or start + 1.

    Raises:
        PlanError: if the choices contradict each other or the model; `make_plan` checks everything else.
    """
    chosen = {name: value for name, value in choices.items() if value is not None}
    name = str(chosen.get("sampler", own.sampler))
    if name not in SAMPLERS:
        raise PlanError(f"{name!r} is not known: choose one of {', '.join(SAMPLERS)}", "sampler")
    spacing = _spacing_of(name, own, chosen.get("steps", own.steps), timesteps)
    own = dataclasses.replace(own, sampler=name, spacing=spacing, eta=own.eta if name == own.sampler else 0.0)
    settings = dataclasses.replace(own, **chosen)  # type: ignore[arg-type]  # the types of Choices
    if settings.variance != own.variance:
        _check_variance(settings, own.variance)
    if (total := steps_in(settings.spacing)) is not None:
        _check_steps(settings, total, chosen.get("steps"), timesteps)
        return dataclasses.replace(settings, steps=total)
    return settings if "steps" in chosen else dataclasses.replace(settings, steps=min(own.steps, timesteps))


def _spacing_of(sampler: str, own: Settings, steps: object, timesteps: int) -> str:
    """Returns the model's own spacing where it fits the run, or else the one that suits the sampler."""
    total = steps_in(own.spacing)  # of a list or of sections, which have their own number of steps
    last = listed_timesteps(own.spacing)[-1] if LISTED.fullmatch(own.spacing) else (total or 1) - 1
    if sampler == own.sampler and (total is None or (steps == own.steps and last < timesteps)):
        return own.spacing
    return SAMPLERS[sampler].spacing or (own.spacing if total is None else "trailing")


def _check_variance(settings: Settings, own: Variance) -> None:
    if not SAMPLERS[settings.sampler].has_variance:
        raise PlanError(f"is not a parameter of {settings.sampler}", "variance")
    if settings.variance.startswith("learned"):
        raise PlanError(f"{settings.variance} was not learned by this model, whose own variance is {own}", "variance")


def _check_steps(settings: Settings, total: int, steps: object, timesteps: int) -> None:
    """Checks the number of steps that sections or a list have by themselves."""
    listed = LISTED.fullmatch(settings.spacing)
    if SAMPLERS[settings.sampler].levels(total) != total:
        kind = "a list" if listed else "sections"
        raise PlanError(f"cannot be {kind} of calls: {settings.sampler} makes two at a level", "spacing")
    if not 1 <= total <= timesteps:
        what = "must list at most {} timesteps" if listed else "sections must add up to between 1 and {}"
        raise PlanError(what.format(timesteps), "spacing", got=total)
    if steps not in (None, total):
        what = "the length of the list" if listed else "the sum of the sections"
        raise PlanError(f"must be {total}, {what}", "steps", got=steps)
