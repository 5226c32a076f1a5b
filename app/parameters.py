"""The parameters of a sampling request: as they are sent, and with everything that was left open filled in."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence

from pydantic import Field

from jobs.catalog import Catalog, ModelInfo
from jobs.contract import (
    MAX_SEED,
    ClipName,
    JobKind,
    SamplerName,
    SamplingParams,
    SpacingName,
    VarianceName,
)
from jobs.tasks import MAX_IMAGES, Picture
from jobs.values import Frozen

from .errors import InvalidRequest

DRAWN_SEEDS = 2**32  # enough that two are never the same, and short enough to be read out
# As in model.plans.plan, which is not imported here: with beta as its variance, DDPM on a coarse chain is mostly noise.
FIXED_LARGE_MIN_STEPS = 500


class SamplingQuery(Frozen):
    """Query parameters, as the client sent them; None is "as the model likes it"."""

    n: int = Field(default=1, ge=1, le=MAX_IMAGES, description="number of images")
    steps: int | None = Field(default=None, ge=1, description="network calls for each image, at most the model's T")
    sampler: SamplerName | None = Field(default=None, description="by default the model's")
    spacing: SpacingName | None = Field(
        default=None,
        description="which timesteps are visited: linspace, leading, trailing, quad, karras, or the steps of as many "
        "equal sections, as in 90,60,60,20,20",
    )
    eta: float | None = Field(default=None, ge=0, le=1, description="stochasticity; ddim only")
    variance: VarianceName | None = Field(default=None, description="of the noise that each step adds; ddpm only")
    clip: ClipName | None = Field(default=None, description="what happens to each predicted picture on the way")
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="of image 0; image i has seed + i")
    label: str | None = Field(default=None, max_length=100, description="class, by name or index")
    guidance_scale: float | None = Field(
        default=None, ge=0, le=100, description="of classifier-free guidance; 1 is off; needs a label"
    )
    classifier_scale: float | None = Field(
        default=None, ge=0, le=100, description="of guidance by the model's classifier; 0 is off; needs a label"
    )
    model: str | None = Field(default=None, max_length=64, description="by default the first")

    def request_hash(self, kind: JobKind, pictures: Sequence[Picture] = ()) -> str:
        """The same for the same request: of what was sent, not of what was filled in (the seed may be drawn)."""
        sent = {"kind": kind, **self.model_dump(exclude_unset=True), "pictures": [each.sha256 for each in pictures]}
        return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()


def choose_model(name: str | None, catalog: Catalog) -> ModelInfo:
    """The model that a request means.

    Raises:
        InvalidRequest: if there is none of this name, or none at all.
    """
    chosen = name or catalog.default
    if chosen is None:
        raise InvalidRequest("parameter", "model", "This server has no model")
    if chosen in catalog.refused:
        raise InvalidRequest("parameter", "model", f"This model cannot be used: {catalog.refused[chosen]}")
    if chosen not in catalog.models:
        raise InvalidRequest("parameter", "model", f"Should be one of {', '.join(catalog.models)}")
    return catalog.models[chosen]


def fill_in(query: SamplingQuery, model: ModelInfo, *, depth: int | None = None) -> SamplingParams:
    """Decides all that the request left open, and draws the seed.

    Args:
        depth: the timestep where the run begins, if that is not T-1.

    Raises:
        InvalidRequest: if the model cannot do what is asked.
    """
    sampler = query.sampler or model.defaults.sampler
    spacing = query.spacing or _spacing(sampler, model)
    if sampler == "heun" and spacing[0].isdigit():
        raise InvalidRequest("parameter", "spacing", "Sections count network calls, of which heun makes two a level")
    total = model.num_train_timesteps if depth is None else depth + 1
    steps = _steps(query.steps, spacing, model, total)
    if depth is None and model.schedule.zero_terminal_snr:
        _check_start(sampler, spacing, steps, model)
    label = _class_index(query.label, model)
    return SamplingParams(
        n=query.n,
        steps=steps,
        sampler=sampler,
        spacing=spacing,
        eta=_eta(query.eta, sampler, model),
        variance=_variance(query.variance, sampler, steps, model, total),
        clip=query.clip or model.clip,
        seed=secrets.randbelow(DRAWN_SEEDS) if query.seed is None else query.seed,
        label=label,
        guidance_scale=_guidance_scale(query.guidance_scale, label, model),
        classifier_scale=_classifier_scale(query.classifier_scale, label, model),
    )


def _spacing(sampler: SamplerName, model: ModelInfo) -> SpacingName:
    """The model's own; but a sampler that was not its choice gets the one that its publication recommends."""
    if sampler == model.defaults.sampler:
        return model.defaults.spacing
    return {"dpmpp": "trailing", "euler": "karras", "heun": "karras"}.get(sampler, model.defaults.spacing)


def _steps(steps: int | None, spacing: SpacingName, model: ModelInfo, total: int) -> int:
    if spacing[0].isdigit():
        sections = [int(part) for part in spacing.split(",")]
        if not all(1 <= count <= total // len(sections) for count in sections):
            most = total // len(sections)
            raise InvalidRequest(
                "parameter", "spacing", f"Each of {len(sections)} sections should have 1 to {most} steps"
            )
        if steps not in (None, sum(sections)):
            raise InvalidRequest("parameter", "steps", f"Should be {sum(sections)}, the sum of the sections")
        return sum(sections)
    if steps is not None and steps > total:
        raise InvalidRequest("parameter", "steps", f"Should be at most {total}, the timesteps from there to 0")
    return steps or min(model.defaults.steps, total)


def _check_start(sampler: SamplerName, spacing: SpacingName, steps: int, model: ModelInfo) -> None:
    """Nothing of an image is left at the last timestep of some models, so their runs must visit it."""
    if sampler == "heun":
        raise InvalidRequest("parameter", "sampler", f"{model.name} begins in pure noise; use ddim, ddpm or dpmpp")
    if spacing != "trailing" and (spacing not in ("linspace", "quad") or steps == 1):
        raise InvalidRequest("parameter", "spacing", f"{model.name} begins in pure noise; use trailing")


def _eta(eta: float | None, sampler: SamplerName, model: ModelInfo) -> float:
    if sampler != "ddim":
        if eta:
            raise InvalidRequest("parameter", "eta", f"Is a parameter of ddim; {sampler} has none")
        return 0.0
    if eta is None:
        return model.defaults.eta if model.defaults.sampler == "ddim" else 0.0
    return eta


def _variance(
    variance: VarianceName | None, sampler: SamplerName, steps: int, model: ModelInfo, total: int
) -> VarianceName:
    if sampler != "ddpm" and variance not in (None, model.variance):
        raise InvalidRequest("parameter", "variance", f"Is a parameter of ddpm; {sampler} has none")
    chosen = variance or model.variance
    if chosen.startswith("learned") and chosen != model.variance:
        raise InvalidRequest("parameter", "variance", f"{model.name} did not learn this; its own is {model.variance}")
    least = min(FIXED_LARGE_MIN_STEPS, total)
    if sampler == "ddpm" and chosen == "fixed_large" and steps < least:
        raise InvalidRequest(
            "parameter",
            "steps",
            f"Should be at least {least} for ddpm with variance fixed_large, which leaves far too much noise in fewer; "
            "use variance=fixed_small, ddim or dpmpp",
        )
    return chosen


def _class_index(label: str | None, model: ModelInfo) -> int | None:
    """Index of the class that a label means: of the network, or else of the classifier that can guide it."""
    if label is None:
        if model.label_required:
            raise InvalidRequest("parameter", "label", f"{model.name} makes no picture without one")
        return None
    count = len(model.classes) if model.classes is not None else model.classifier_classes
    if count is None:
        raise InvalidRequest("parameter", "label", f"{model.name} has no classes")
    if model.classes is not None and label in model.classes:
        return model.classes.index(label)
    if label.isascii() and label.isdigit() and int(label) < count:
        return int(label)
    raise InvalidRequest("parameter", "label", f"Should be a class of {model.name}, by name or index 0 to {count - 1}")


def _guidance_scale(scale: float | None, label: int | None, model: ModelInfo) -> float:
    if scale is None or scale == 1.0:
        return 1.0
    if model.classes is None:
        raise InvalidRequest("parameter", "guidance_scale", f"{model.name} has no classes to guide by")
    if model.label_required:
        raise InvalidRequest("parameter", "guidance_scale", f"{model.name} did not learn to draw without a label")
    if label is None:
        raise InvalidRequest("parameter", "guidance_scale", "Needs a label")
    return scale


def _classifier_scale(scale: float | None, label: int | None, model: ModelInfo) -> float:
    """Off unless asked for; but a label of a network without classes means guidance by its classifier."""
    if scale is None:
        return 1.0 if model.classes is None and label is not None else 0.0
    if scale and model.classifier_classes is None:
        raise InvalidRequest("parameter", "classifier_scale", f"{model.name} has no classifier")
    if scale and label is None:
        raise InvalidRequest("parameter", "classifier_scale", "Needs a label")
    return scale
