"""Filling in what a request leaves open, from the model that it asks for and from the model's examples."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from difuso.model.conditions import Choice, Value
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.never import combinations_in
from difuso.model.plans.plan import Plan
from difuso.model.plans.settings import INTERVAL

from .catalog import ModelInfo
from .conditions import Values, check_size, read_values
from .errors import RequestRefused
from .params import MAX_IMAGES, SamplingParams
from .per_image import ALL, classes_of, draw_seed, image_count, label_in_turn, one_or_several
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
    noises: int = 0,
    with_examples: bool = False,
) -> Filled:
    """Fills in all parameters that a request omits, draws the seed, and plans the run.

    Args:
        start: the timestep at which the run begins; None for T-1.
        values: the values of conditions; None for those of the query.
        noises: the number of images whose noise the request has sent.
        with_examples: whether the model's examples fill in conditions that are left out, see `fill_in_conditions`.

    Raises RequestRefused or PlanError if the model cannot run the request.
    """
    config, chosen = model.config, query.chosen
    if values is None:
        values = read_values(query.conditions, config.conditions, model=model.name)
    turns = classes_of(query.label, config.classes, count=config.num_labels, model=model.name)
    sizes = {name: len(each) for name, each in values.items()}
    n = image_count(query.seed, query.label, n=query.n, turns=len(turns), noises=noises, values=sizes)
    if n > MAX_IMAGES:
        raise RequestRefused("n", f"Label {ALL} needs n: {model.name} has {n} classes, more than {MAX_IMAGES}")
    seed, label = one_or_several(query.seed or draw_seed()), label_in_turn(turns, range(n))
    if label is None and model.label_required:
        raise RequestRefused("label", f"{model.name} needs a label: name a class")
    # Whether files of conditions come is seen later, by `Kind`.
    examples = config.examples if with_examples else ()
    named = {*values, *examples, *(name for name, condition in config.conditions.items() if condition.is_file)}
    check_guidance(chosen, query.guide, model, given=named if label is None else {"label", *named})
    chosen.setdefault("classifier_scale", float(config.classes is None and label is not None))
    settings = config.settle(plan=query.plan, start=start, **chosen)
    plan = config.plan_of(model.schedule, settings, start=start)
    guide = query.guide and tuple(dict.fromkeys(query.guide))
    params = SamplingParams(n=n, seed=seed, label=label, conditions=values, guide=guide, **vars(settings))
    return Filled(params, plan)


def check_guidance(
    chosen: Mapping[str, Any], guide: Sequence[str] | None, model: ModelInfo, *, given: Collection[str]
) -> None:
    """Raises RequestRefused unless something can guide the model as a request chooses.

    Args:
        chosen: the settings that the request chooses.
        guide: the names of the conditions that guidance acts on; None for all that may be left out.
        given: the names of the conditions that the images have, `label` among them.
    """
    config, guided = model.config, chosen.get("guidance_scale", 1.0) != 1.0
    never = config.never_guided
    may = frozenset[str]() if config.weaker is not None else config.left_out(given)
    if never is not None and guided:
        raise RequestRefused("guidance_scale", f"Input should be 1: {model.name} {never}")
    for name in INTERVAL:
        if never is not None and name in chosen:
            raise RequestRefused(name, f"Input should be omitted: {model.name} {never}")
    if guide and not may:
        raise RequestRefused("guide", f"Input should be omitted: {model.name} has no condition that guidance can drop")
    if not may.issuperset(guide or ()):
        raise RequestRefused("guide", f"Input should be one of {', '.join(sorted(may))}")
    if guided and config.weaker is None and not may:
        conditions = [f"condition {name}" for name, each in config.conditions.items() if each.null]
        labels = ["label"] if config.classes is not None and config.network.null_class else []
        raise RequestRefused("guidance_scale", f"This needs a {' or a '.join(labels + conditions)}")
    if chosen.get("classifier_scale") and config.classifier is None:
        raise RequestRefused("classifier_scale", f"Input should be 0: {model.name} has no classifier")
    if chosen.get("classifier_scale") and "label" not in given:
        raise RequestRefused("classifier_scale", "This needs a label")


def fill_in_conditions(params: SamplingParams, config: ModelConfig) -> SamplingParams:
    """Fills in the conditions that a request leaves out, for each image by itself, if the model has examples.

    The seed of an image chooses an example, so that the same seed gets the same values. A value that in no example
    comes with one of the choices that the image has, such as a colour of hair with a hat, is taken from another
    example, which agrees with them. So where the values of a choice take turns, all else stays that can stay. If that
    makes a combination that the model declares never seen, all values are taken from an example that does not.

    Raises RequestRefused if all values together are too long for a job.
    """
    examples = config.examples
    left_out = [name for name in examples if name not in params.conditions]
    if not left_out:
        return params
    given = _given_choices(params, config)
    beside = cache(partial(_beside, examples))
    agreeing = cache(partial(_agreeing, [examples[name] for name in given], len(examples[left_out[0]])))
    found: dict[str, list[Value]] = {name: [] for name in left_out}
    for index in range(params.n):
        own = params.conditions_of(index)
        values, lot = tuple(own[name] for name in given), _lot(params.seed_of(index))
        filled = {name: examples[name][lot % len(examples[name])] for name in left_out}
        for name, value in filled.items():
            if not all(value in beside(one, each)[name] for one, each in zip(given, values, strict=True)):
                rows = agreeing(values)
                filled[name] = examples[name][rows[lot % len(rows)]]
        if _contradicts(config, own, filled):
            others = ({name: examples[name][row] for name in left_out} for row in agreeing(values))
            fitting = [each for each in others if not _contradicts(config, own, each)] or [filled]
            filled = fitting[lot % len(fitting)]
        for name, value in filled.items():
            found[name].append(value)
    conditions = {**params.conditions, **{name: tuple(column) for name, column in found.items()}}
    check_size(conditions)
    return params.model_copy(update={"conditions": conditions})


def _contradicts(config: ModelConfig, own: Mapping[str, Value], filled: Mapping[str, Value]) -> bool:
    """Returns whether filled-in values make a combination that the model has never seen, with others or among them."""
    return any(not each.keys() <= own.keys() for each in combinations_in(config.never, {**own, **filled}))


def _given_choices(params: SamplingParams, config: ModelConfig) -> list[str]:
    """Returns the names of the choices that a request gives and examples have, those with the most values first."""
    choices = {name: each for name, each in config.conditions.items() if isinstance(each, Choice)}
    names = [name for name in sorted(choices) if name in params.conditions and name in config.examples]
    return sorted(names, key=lambda name: -len(choices[name].values))


def _beside(examples: Mapping[str, Sequence[Value]], name: str, value: Value) -> dict[str, set[Value]]:
    """Returns the values that all conditions have in the examples where one of them has this value, by name."""
    rows = [row for row, each in enumerate(examples[name]) if each == value]
    return {other: {column[row] for row in rows} for other, column in examples.items()}


def _agreeing(columns: Sequence[Sequence[Value]], count: int, values: Sequence[Value]) -> Sequence[int]:
    """Returns which of so many examples agree with choices, as far as any do; the first choices count most."""
    rows: Sequence[int] = range(count)
    for column, value in zip(columns, values, strict=True):
        rows = [row for row in rows if column[row] == value] or rows
    return rows


def _lot(seed: int) -> int:
    """Returns a large number that follows from a seed; those of seeds in a row are not in a row."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8])
