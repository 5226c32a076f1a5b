"""Filling in what a request leaves open, from the model that it asks for."""

from __future__ import annotations

from model.guidance import Guidance

from .catalog import ModelInfo
from .errors import RequestRefused
from .params import SamplingParams, choices_of
from .per_image import per_image
from .queries import SamplingQuery


def fill_in(query: SamplingQuery, model: ModelInfo, *, start: int | None = None) -> SamplingParams:
    """Fills in all parameters that a request omits, draws the seed, and checks that the run is possible.

    Args:
        start: the timestep at which the run begins; None for T-1.

    Raises:
        RequestRefused, PlanError: if the model cannot run the request.
    """
    settings = model.config.settle(plan=query.plan, start=start, **choices_of(query))
    model.config.plan(model.schedule, start=start, **settings.choices)
    images = per_image(
        query.seed,
        query.label,
        n=query.n,
        classes=model.config.classes,
        count=model.config.num_labels,
        model=model.name,
    )
    if images.label is None and model.label_required:
        raise RequestRefused("label", f"Is needed by {model.name}: name a class")
    has_label = images.label is not None
    guidance = _guidance(query, has_label, model, from_noise=start is None)
    return SamplingParams(
        **images._asdict(),
        **vars(settings),
        **guidance.settings,
        classifier_scale=_classifier_scale(query.classifier_scale, has_label, model),
    )


def _guidance(query: SamplingQuery, has_label: bool, model: ModelInfo, *, from_noise: bool) -> Guidance:
    """Returns the guidance; its scale is by default 1, or for images drawn from noise alone the model's own."""
    scale, reason = query.guidance_scale, model.config.never_guided
    if reason is not None and scale not in (None, 1.0):
        raise RequestRefused("guidance_scale", f"Should be 1: {model.name} {reason}")
    for name in ("guidance_low", "guidance_high"):
        if reason is not None and getattr(query, name) is not None:
            raise RequestRefused(name, f"Should be omitted: {model.name} {reason}")
    if scale not in (None, 1.0) and model.config.weaker is None and not has_label:
        raise RequestRefused("guidance_scale", "Needs a label")
    own = model.config.defaults_of(query.plan)
    if scale is None:
        scale = own.guidance_scale if from_noise else 1.0
    return own.guidance(scale, low=query.guidance_low, high=query.guidance_high)


def _classifier_scale(scale: float | None, has_label: bool, model: ModelInfo) -> float:
    """Returns the scale; by default 0, or 1 if the label is one of the classifier only."""
    if scale is None:
        return 1.0 if model.config.classes is None and has_label else 0.0
    if scale and model.config.classifier is None:
        raise RequestRefused("classifier_scale", f"Should be 0: {model.name} has no classifier")
    if scale and not has_label:
        raise RequestRefused("classifier_scale", "Needs a label")
    return scale
