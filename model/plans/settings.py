"""The settings of a sampling run, and the defaults for settings that a request leaves open."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypedDict

from ..errors import PlanError
from .clipping import ClipMode
from .samplers import SAMPLERS, Variance
from .spacing import SECTIONS


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


def settle(choices: Choices, own: Settings, *, timesteps: int) -> Settings:
    """Completes the settings that a request chooses.

    A model's own settings apply to its own sampler. Another sampler gets the spacing that suits it, and eta 0.

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
    sampler = SAMPLERS[name]
    if name != own.sampler:
        own = dataclasses.replace(own, sampler=name, spacing=sampler.spacing or own.spacing, eta=0.0)
    settings = dataclasses.replace(own, **chosen)  # type: ignore[arg-type]  # the types of Choices
    if settings.variance != own.variance:
        _check_variance(settings, own.variance)
    if SECTIONS.fullmatch(settings.spacing):
        return dataclasses.replace(settings, steps=_sum_of_sections(settings, chosen.get("steps"), timesteps))
    return settings if "steps" in chosen else dataclasses.replace(settings, steps=min(own.steps, timesteps))


def _check_variance(settings: Settings, own: Variance) -> None:
    if "variance" not in SAMPLERS[settings.sampler].options:
        raise PlanError(f"is not a parameter of {settings.sampler}", "variance")
    if settings.variance.startswith("learned"):
        raise PlanError(f"{settings.variance} was not learned by this model, whose own variance is {own}", "variance")


def _sum_of_sections(settings: Settings, steps: object, timesteps: int) -> int:
    total = sum(map(int, settings.spacing.split(",")))
    if SAMPLERS[settings.sampler].levels(total) != total:
        raise PlanError(
            f"cannot be in sections, which count network calls: {settings.sampler} makes two at a level", "spacing"
        )
    if not 1 <= total <= timesteps:
        raise PlanError(f"sections must add up to between 1 and {timesteps}", "spacing", got=total)
    if steps not in (None, total):
        raise PlanError(f"must be {total}, the sum of the sections", "steps", got=steps)
    return total
