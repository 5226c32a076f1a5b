"""The parameters of a sampling request: as they are sent, and with everything that was left open filled in."""

from __future__ import annotations

import hashlib
import json
import secrets

from pydantic import Field

from jobs.catalog import Catalog, ModelInfo
from jobs.contract import MAX_IMAGES, MAX_SEED, Frozen, JobKind, SamplerName, SamplingParams, SpacingName

from .errors import InvalidRequest

DRAWN_SEEDS = 2**32  # enough that two are never the same, and short enough to be read out
# As in model.plan, which is not imported here: with beta as its variance, DDPM on a coarse chain is mostly noise.
FIXED_LARGE_MIN_STEPS = 500


class SamplingQuery(Frozen):
    """Query parameters, as the client sent them; None is "as the model likes it"."""

    n: int = Field(default=1, ge=1, le=MAX_IMAGES, description="number of images")
    steps: int | None = Field(default=None, ge=1, description="network calls for each image, at most the model's T")
    sampler: SamplerName | None = Field(default=None)
    spacing: SpacingName | None = Field(default=None, description="which timesteps are visited")
    eta: float | None = Field(default=None, ge=0, le=1, description="stochasticity; ddim only")
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="of image 0; image i has seed + i")
    label: str | None = Field(default=None, max_length=100, description="class, by name or index")
    guidance_scale: float | None = Field(default=None, ge=0, le=100, description="1 is off; needs a label")
    model: str | None = Field(default=None, max_length=64)

    def request_hash(self, kind: JobKind) -> str:
        """The same for the same request: of what was sent, not of what was filled in (the seed may be drawn)."""
        sent = {"kind": kind, **self.model_dump(exclude_unset=True)}
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


def fill_in(query: SamplingQuery, model: ModelInfo) -> SamplingParams:
    """Decides all that the request left open, and draws the seed.

    Raises:
        InvalidRequest: if the model cannot do what is asked.
    """
    defaults = model.defaults
    sampler = query.sampler or defaults.sampler
    label = _class_index(query.label, model)
    return SamplingParams(
        n=query.n,
        steps=_steps(query.steps or defaults.steps, sampler, model),
        sampler=sampler,
        spacing=query.spacing or _spacing(sampler, model),
        eta=_eta(query.eta, sampler, model),
        seed=secrets.randbelow(DRAWN_SEEDS) if query.seed is None else query.seed,
        label=label,
        guidance_scale=_guidance(query.guidance_scale, label, model),
    )


def _steps(steps: int, sampler: SamplerName, model: ModelInfo) -> int:
    total = model.num_train_timesteps
    if steps > total:
        raise InvalidRequest("parameter", "steps", f"Should be at most {total}, the timesteps of {model.name}")
    least = min(FIXED_LARGE_MIN_STEPS, total)
    if sampler == "ddpm" and model.variance == "fixed_large" and steps < least:
        raise InvalidRequest(
            "parameter", "steps", f"Should be at least {least} for ddpm with {model.name}; below that use ddim or dpmpp"
        )
    return steps


def _spacing(sampler: SamplerName, model: ModelInfo) -> SpacingName:
    """The model's own spacing; but a second-order solver that was not its choice wants the last timestep visited."""
    return "trailing" if sampler == "dpmpp" != model.defaults.sampler else model.defaults.spacing


def _eta(eta: float | None, sampler: SamplerName, model: ModelInfo) -> float:
    if sampler != "ddim":
        if eta:
            raise InvalidRequest("parameter", "eta", f"Is a parameter of ddim; {sampler} has none")
        return 0.0
    if eta is None:
        return model.defaults.eta if model.defaults.sampler == "ddim" else 0.0
    return eta


def _class_index(label: str | None, model: ModelInfo) -> int | None:
    if label is None:
        return None
    if model.classes is None:
        raise InvalidRequest("parameter", "label", f"{model.name} has no classes")
    if label in model.classes:
        return model.classes.index(label)
    if label.isascii() and label.isdigit() and int(label) < len(model.classes):
        return int(label)
    last = len(model.classes) - 1
    raise InvalidRequest("parameter", "label", f"Should be a class of {model.name}, by name or index 0 to {last}")


def _guidance(scale: float | None, label: int | None, model: ModelInfo) -> float:
    if scale is None or scale == 1.0:
        return 1.0
    if model.classes is None:
        raise InvalidRequest("parameter", "guidance_scale", f"{model.name} has no classes to guide by")
    if label is None:
        raise InvalidRequest("parameter", "guidance_scale", "Needs a label")
    return scale
