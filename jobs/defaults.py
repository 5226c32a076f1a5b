"""Filling in what a request leaves open, from the model that it asks for."""

from typing import Any, NamedTuple

from model.plans.plan import Plan
from model.plans.settings import INTERVAL

from .catalog import ModelInfo
from .errors import RequestRefused
from .params import SamplingParams
from .per_image import per_image
from .queries import SamplingQuery


class Filled(NamedTuple):
    """The sampling parameters of a request, all filled in, and the plan of their run."""

    params: SamplingParams
    plan: Plan


def fill_in(query: SamplingQuery, model: ModelInfo, *, start: int | None = None) -> Filled:
    """Fills in all parameters that a request omits, draws the seed, and plans the run.

    Args:
        start: the timestep at which the run begins; None for T-1.

    Raises:
        RequestRefused, PlanError: if the model cannot run the request.
    """
    config, chosen = model.config, query.chosen
    images = per_image(
        query.seed, query.label, n=query.n, classes=config.classes, count=config.num_labels, model=model.name
    )
    if images.label is None and model.label_required:
        raise RequestRefused("label", f"{model.name} needs a label: name a class")
    _check_guidance(chosen, model, has_label=images.label is not None)
    chosen.setdefault("classifier_scale", float(config.classes is None and images.label is not None))
    settings = config.settle(plan=query.plan, start=start, **chosen)
    plan = config.plan_of(model.schedule, settings, start=start)
    return Filled(SamplingParams(**images._asdict(), **vars(settings)), plan)


def _check_guidance(chosen: dict[str, Any], model: ModelInfo, *, has_label: bool) -> None:
    """Raises RequestRefused if nothing can guide the model as a request chooses, or not without a label."""
    guided, never = chosen.get("guidance_scale", 1.0) != 1.0, model.config.never_guided
    if never is not None and guided:
        raise RequestRefused("guidance_scale", f"Input should be 1: {model.name} {never}")
    for name in INTERVAL:
        if never is not None and name in chosen:
            raise RequestRefused(name, f"Input should be omitted: {model.name} {never}")
    if guided and model.config.weaker is None and not has_label:
        raise RequestRefused("guidance_scale", "This needs a label")
    if chosen.get("classifier_scale") and model.config.classifier is None:
        raise RequestRefused("classifier_scale", f"Input should be 0: {model.name} has no classifier")
    if chosen.get("classifier_scale") and not has_label:
        raise RequestRefused("classifier_scale", "This needs a label")
