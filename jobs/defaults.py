"""Filling in what a request leaves open, from the model that it asks for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from difuso.model.plans.plan import Plan
from difuso.model.plans.settings import INTERVAL

from .catalog import ModelInfo
from .conditions import Values, read_values
from .errors import RequestRefused
from .params import SamplingParams
from .per_image import per_image
from .queries import SamplingQuery


class Filled(NamedTuple):
    """The sampling parameters of a request, all filled in, and the plan of their run."""

    params: SamplingParams
    plan: Plan


def fill_in(
    query: SamplingQuery,
    model: ModelInfo,
    *,
    start: int | None = None,
    values: Values | None = None,
    with_examples: bool = False,
) -> Filled:
    """Fills in all parameters that a request omits, draws the seed, and plans the run.

    Args:
        start: the timestep at which the run begins; None for T-1.
        values: the values of conditions; None for those of the query.
        with_examples: whether the model's examples fill in conditions that are left out, see `jobs.examples`.

    Raises RequestRefused or PlanError if the model cannot run the request.
    """
    config, chosen = model.config, query.chosen
    if values is None:
        values = read_values(query.conditions, config.conditions, model=model.name)
    images = per_image(
        query.seed,
        query.label,
        n=query.n,
        classes=config.classes,
        count=config.num_labels,
        model=model.name,
        values={name: len(each) for name, each in values.items()},
    )
    if images.label is None and model.label_required:
        raise RequestRefused("label", f"{model.name} needs a label: name a class")
    # Whether images of conditions come is seen later, by `Kind`.
    examples = config.examples if with_examples else ()
    named = {*values, *examples, *(name for name, condition in config.conditions.items() if condition.is_image)}
    check_guidance(chosen, query.guide, model, given=named if images.label is None else {"label", *named})
    chosen.setdefault("classifier_scale", float(config.classes is None and images.label is not None))
    settings = config.settle(plan=query.plan, start=start, **chosen)
    plan = config.plan_of(model.schedule, settings, start=start)
    guide = query.guide and tuple(dict.fromkeys(query.guide))
    return Filled(SamplingParams(**images._asdict(), conditions=values, guide=guide, **vars(settings)), plan)


def check_guidance(
    chosen: Mapping[str, Any], guide: Sequence[str] | None, model: ModelInfo, *, given: Collection[str]
) -> None:
    """Checks that something can guide the model as a request chooses.

    Args:
        chosen: the settings that the request chooses.
        guide: the names of the conditions that guidance acts on; None for all that may be left out.
        given: the names of the conditions that the images have, `label` among them.

    Raises RequestRefused if nothing can, or not without a label or a condition.
    """
    guided, never = chosen.get("guidance_scale", 1.0) != 1.0, model.config.never_guided
    if never is not None and guided:
        raise RequestRefused("guidance_scale", f"Input should be 1: {model.name} {never}")
    for name in INTERVAL:
        if never is not None and name in chosen:
            raise RequestRefused(name, f"Input should be omitted: {model.name} {never}")
    may = model.config.left_out(given)
    for name in guide or ():
        if name not in may or model.config.weaker is not None:
            if may and model.config.weaker is None:
                raise RequestRefused("guide", f"Input should be one of {', '.join(sorted(may))}")
            raise RequestRefused(
                "guide", f"Input should be omitted: {model.name} has no condition that guidance can drop"
            )
    if guided and model.config.weaker is None and not may:
        conditions = [f"condition {name}" for name, each in model.config.conditions.items() if each.null]
        labels = ["label"] if model.config.classes is not None and model.config.network.null_class else []
        raise RequestRefused("guidance_scale", f"This needs a {' or a '.join(labels + conditions)}")
    if chosen.get("classifier_scale") and model.config.classifier is None:
        raise RequestRefused("classifier_scale", f"Input should be 0: {model.name} has no classifier")
    if chosen.get("classifier_scale") and "label" not in given:
        raise RequestRefused("classifier_scale", "This needs a label")
