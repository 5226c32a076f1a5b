"""The settings of a sampling run: one table, and the defaults for settings that a request leaves open.

Each field has its type, its bounds, its default and a description with its unit. All else that names settings inherits
these fields or is made from them: a model's defaults, the queries of requests and with them OpenAPI, the options of the
command line and the page's form, the parameters of jobs, the recipes in PNGs, and the bounds of a config.

A field that is added is left out while it has its default (`exclude_if`), so that a job without it needs no newer
worker and the recipe in its PNG keeps its bytes. So its default must be the behaviour without the field.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import PlanError
from ..guidance import MOST_SIGMA, Guidance
from .clipping import ClipMode
from .plugins import KnownSampler
from .samplers import MOST_ETA, SAMPLERS
from .samplers.transition import Variance
from .spacing import LISTED, RULES, ends_at_noise, listed_timesteps

MOST_STEPS = 10_000  # as many as a schedule may have timesteps

# The eta of restorations: the share of the noise that is drawn anew where nothing is measured (Kawar et al. 2022,
# section 4.3).
RESTORATION_ETA = 0.85

Scale = Annotated[float, Field(ge=0, le=100)]  # of guidance of either kind

# A type that validates names. For mypy it is a plain string.
if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = KnownSampler

SPACING = rf"^({'|'.join(RULES)}|{LISTED.pattern})$"  # the name of a rule, or a list of timesteps


@dataclass(frozen=True)
class Run:
    """The settings of every run, also of the second stage of a cascade."""

    sampler: Annotated[
        SamplerName, Field(description=f"sampler: {', '.join(SAMPLERS)}, or a plug-in's; by default the model's")
    ] = "ddim"
    steps: Annotated[
        int,
        Field(ge=1, le=MOST_STEPS, examples=[50], description="network calls for each image, at most the model's T"),
    ] = 50
    spacing: Annotated[
        str,
        Field(
            pattern=SPACING,
            examples=list(RULES),
            description=f"choice of the timesteps: {', '.join(RULES)}, or a list of at most 100, such as "
            "at:12.5,160,999",
        ),
    ] = "leading"
    eta: Annotated[
        float,
        Field(ge=0, le=MOST_ETA, description="stochasticity: up to 1 for ddim, 10 for dpmpp, 0 for the others"),
    ] = 0.0


@dataclass(frozen=True)
class SamplerDefaults(Run):
    """The settings that a model has for requests that name none, and in each of its plans.

    Guidance of requests that begin at an image is off by default, and that by labels in all: `guidance_scale` differs
    from 1 for a model with a weaker network only. The noise levels are those where guidance of any scale acts.

    Raises PlanError if there are no such noise levels.
    """

    guidance_scale: Annotated[
        Scale,
        Field(
            description="scale of guidance by a weaker network, or without one classifier-free, which needs a label; "
            "1 is off",
        ),
    ] = 1.0
    guidance_low: Annotated[
        float | None,
        Field(
            ge=0,
            le=MOST_SIGMA,
            exclude_if=lambda value: value is None,
            description="noise level, as sigma, above which guidance_scale acts; by default the model's, or 0",
        ),
    ] = None
    guidance_high: Annotated[
        float | None,
        Field(
            ge=0,
            le=MOST_SIGMA,
            exclude_if=lambda value: value is None,
            description="noise level, as sigma, up to which guidance_scale acts; by default the model's, or 1000000, "
            "which is no limit",
        ),
    ] = None

    def __post_init__(self) -> None:
        _ = self.guidance  # or there is no such interval

    @property
    def guidance(self) -> Guidance:
        """Guidance without a classifier."""
        return Guidance(self.guidance_scale, self.guidance_low, self.guidance_high)


@dataclass(frozen=True)
class Settings(SamplerDefaults):
    """The settings of a run, all settled."""

    variance: Annotated[Variance, Field(description="variance of the noise of each step; ddpm only")] = "fixed_small"
    clip: Annotated[ClipMode, Field(description="clipping of the predicted image at each step")] = "static"
    classifier_scale: Annotated[
        Scale, Field(description="scale of guidance by the model's classifier; 0 is off; needs a label")
    ] = 0.0


RUN, SETTINGS = (tuple(field.name for field in fields(kind)) for kind in (Run, Settings))
INTERVAL = ("guidance_low", "guidance_high")
GUIDANCE = ("guidance_scale", *INTERVAL)


def check_names(choices: Iterable[str]) -> None:
    """Raises PlanError if a name is not that of a setting; the message has the most similar one."""
    for name in choices:
        if name not in SETTINGS:
            close = get_close_matches(name, SETTINGS, 1)
            hint = f"did you mean {close[0]}?" if close else f"choose of {', '.join(SETTINGS)}"
            raise PlanError(f"is no setting of a run: {hint}", name)


def settle(choices: Mapping[str, Any], own: Settings, *, timesteps: int) -> Settings:
    """Completes the settings that a request chooses.

    A model's own settings apply to its own sampler. Another sampler gets the spacing that suits it, and eta 0. A list
    of timesteps applies to its own sampler and number of steps only, and not to runs that begin below its last one. The
    model's noise levels of guidance apply to guidance of any scale.

    Args:
        choices: the settings that the request chooses, by name; None, like a missing one, leaves a setting open.
        own: the model's own settings.
        timesteps: number of timesteps that the run chooses from: T, or start + 1.

    Raises PlanError if the choices contradict each other or the model; `make_plan` checks everything else.
    """
    check_names(choices)
    chosen = {name: value for name, value in choices.items() if value is not None}
    name = str(chosen.get("sampler", own.sampler))
    if name not in SAMPLERS:
        raise PlanError(f"{name!r} is not known: choose one of {', '.join(SAMPLERS)}", "sampler")
    spacing = _spacing_of(name, own, chosen.get("steps", own.steps), timesteps)
    own = replace(own, sampler=name, spacing=spacing, eta=own.eta if name == own.sampler else 0.0)
    if chosen.get("guidance_scale", own.guidance_scale) == 1.0:
        own = _without_interval(own, chosen)
    settings = replace(own, **chosen)
    if settings.variance != own.variance and not SAMPLERS[name].has_variance:
        raise PlanError(f"is not a parameter of {name}", "variance")
    if (listed := listed_timesteps(settings.spacing)) is not None:
        ends = ends_at_noise(settings.spacing)
        steps = SAMPLERS[name].calls(len(listed) + ends) - ends
        _check_list(len(listed), steps, chosen.get("steps"), timesteps)
        return replace(settings, steps=steps)
    return settings if "steps" in chosen else replace(settings, steps=min(own.steps, timesteps))


def _without_interval(own: Settings, chosen: Mapping[str, Any]) -> Settings:
    """Returns settings that guide nothing, where no noise level of guidance may be chosen."""
    for end in INTERVAL:
        if end in chosen:
            raise PlanError("needs a guidance_scale other than 1", end)
    return replace(own, guidance_low=None, guidance_high=None)


def _spacing_of(sampler: str, own: Settings, steps: object, timesteps: int) -> str:
    """Returns the model's own spacing where it fits the run, or else the one that suits the sampler."""
    listed = listed_timesteps(own.spacing)
    if sampler == own.sampler and (listed is None or (steps == own.steps and listed[-1] <= timesteps - 1)):
        return own.spacing
    return SAMPLERS[sampler].spacing or (own.spacing if listed is None else "trailing")


def _check_list(length: int, steps: int, chosen: object, timesteps: int) -> None:
    """Checks the number of steps that a list has by itself."""
    if length > timesteps:
        raise PlanError(f"must list at most {timesteps} timesteps", "spacing", got=length)
    if chosen not in (None, steps):
        calls = "the length of the list" if steps == length else "the calls of this sampler at these timesteps"
        raise PlanError(f"must be {steps}, {calls}", "steps", got=chosen)
