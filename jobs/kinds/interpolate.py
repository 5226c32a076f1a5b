"""Interpolating between two images (Ho et al. 2020, section 4.4), or between two seeds (Song et al. 2021, 5.3)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from difuso.model.plans.inversion import make_inversion
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.spacing import KARRAS

from ..catalog import ModelInfo
from ..conditions import Values, check_size, mixed, read_values
from ..defaults import fill_in, fill_in_conditions
from ..errors import RequestRefused
from ..images.fitting import fit
from ..params import MAX_IMAGES, MAX_TIMESTEP, SamplingParams, Seed
from ..queries import ImageQuery
from .base import Fit, Images, Kind, Prepared, Task

LEAST_INVERTED = 25  # steps unless a request names fewer; with 10 an image comes back with errors that are seen
STRENGTH = 0.5  # the default part of T to which both are noised: Ho et al. 2020, figure 8
TWO_SEEDS = "two seeds"  # in messages
OF_IMAGES = ("t", "mode", "noise", "fit")  # parameters that have no meaning between two seeds


class InterpolateQuery(ImageQuery):
    """Query parameters of /interpolate."""

    n: int | None = Field(default=None, ge=1, le=MAX_IMAGES, description="number of lambdas; may be omitted")
    seed: list[Seed] | None = Field(
        default=None,
        min_length=1,
        max_length=2,
        examples=[[7]],
        description="seed of all images; or without uploads the two seeds between whose images they lie",
    )
    shares: list[float] = Field(
        default=[0.5],
        alias="lambda",
        min_length=1,
        max_length=MAX_IMAGES,
        examples=[[0.25, 0.5, 0.75]],
        description="share of the second image or seed, 0 to 1; repeat it for several images",
    )
    t: int | None = Field(default=None, ge=0, description="timestep to which both images are noised or inverted")
    mode: Literal["ddpm", "ddim"] = Field(default="ddpm", description="noise and mix, or invert and follow the arc")
    noise: Literal["shared", "independent", "rescaled"] = Field(
        default="shared", description="noise of the two images; ddpm only"
    )

    @property
    def has_two_seeds(self) -> bool:
        """Whether the images lie between two seeds, not between two images of the request."""
        return self.seed is not None and len(self.seed) == 2


class Interpolation(Task):
    """Interpolating between two images, or between two `seeds`.

    Attributes:
        depth: the timestep to which both images are noised or inverted; None between two seeds, whose noises are mixed
            where every run begins, and wherever it draws noise on its way.
        mode: `ddpm` noises both images, mixes them, and runs the reverse chain; `ddim` inverts both, follows the arc
            between their noises, and draws from it without noise.
        noise: the noise of `ddpm`: `shared` by both; `independent`, whose mixture has too small a variance; `rescaled`,
            independent with the variance corrected.
    """

    kind: Literal["interpolate"] = "interpolate"
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(min_length=1, max_length=MAX_IMAGES)
    depth: int | None = Field(default=None, ge=0, le=MAX_TIMESTEP)
    mode: Literal["ddpm", "ddim"] = "ddpm"
    noise: Literal["shared", "independent", "rescaled"] = "shared"
    seeds: tuple[Seed, Seed] | None = None
    is_sequence: ClassVar[bool] = True

    def image_steps(self, params: SamplingParams, guided_steps: int | None = None) -> int:
        """Returns the work of the job. An inversion counts as an image, with one call less and without a classifier."""
        drawn = super().image_steps(params, guided_steps)
        if self.mode == "ddpm":
            return drawn
        inversion = params.model_copy(update={"classifier_scale": 0.0, "steps": params.steps - 1})
        return drawn + 2 * inversion.calls(None if guided_steps is None else min(guided_steps, inversion.steps))

    def needs(self, params: SamplingParams) -> set[str]:
        is_noisy = params.eta > 0 or SAMPLERS[params.sampler].always_noisy
        return super().needs(params) | ({"noise between seeds"} if self.seeds is not None and is_noisy else set())

    def seed(self, params: SamplingParams, index: int) -> int:
        """Returns the seed of all images, which is the same so that they change smoothly; the first of two."""
        return params.seed_of(0)

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        return {**super().facts(params, index, images), "shares": [self.shares[index]]}

    def file_stem(self, params: SamplingParams, index: int) -> str:
        between = f"-to-{self.seeds[1]}" if self.seeds else ""
        return f"{self.seed_and_class(params, index)}{between}-{self.shares[index]:g}"


def complete(query: InterpolateQuery, model: ModelInfo, images: Images) -> Prepared:
    count = len(query.shares)
    if not all(0 <= share <= 1 for share in query.shares):
        raise RequestRefused("lambda", "Input should lie between 0 and 1")
    if query.n not in (None, count):
        raise RequestRefused("n", f"Input should be the number of lambdas, {count}")
    if len(query.label or ()) not in (0, 1, count):
        raise RequestRefused("label", f"Input should be one, or one for each of the {count} lambdas")
    query = query.model_copy(update={"n": count})
    if query.has_two_seeds:
        return _between_seeds(query, model)
    return _between_images(query, model)


def _between_images(query: InterpolateQuery, model: ModelInfo) -> Prepared:
    timesteps = model.schedule.num_train_timesteps
    depth = max(0, round(STRENGTH * timesteps) - 1) if query.mode == "ddpm" else timesteps - 1
    if query.t is not None:
        depth = query.t
    if depth >= timesteps:
        raise RequestRefused("t", f"Input should be at most {timesteps - 1}")
    if query.mode == "ddim":
        return _between_noises(query, model, depth)
    params, plan = fill_in(query, model, start=depth)
    return Prepared(params, _task(query, depth), plan=plan)


def _between_noises(query: InterpolateQuery, model: ModelInfo, depth: int) -> Prepared:
    """By default, images are drawn by the solver and on the grid that inverted them, which reverses this best."""
    if depth == 0:
        raise RequestRefused("t", "Input should be at least 1 with mode ddim")
    query.only("eta", 0.0, "mode ddim")
    if "sampler" not in query.chosen and query.plan is None:
        by_karras = "spacing" not in query.chosen and (
            model.schedule.continuous or math.isfinite(model.schedule.sigmas[depth])
        )
        query = query.model_copy(update={"sampler": "dpmpp"} | ({"spacing": KARRAS} if by_karras else {}))
    if query.plan is None and not query.chooses_steps:
        least = min(max(LEAST_INVERTED, model.config.defaults.steps), depth + 1)
        query = query.model_copy(update={"steps": least})
    params, plan = fill_in(_without_noise(query, model), model, start=depth)
    if plan.stochastic:
        parameter = "sampler" if "sampler" in query.chosen else "plan"
        advice = f"omit {parameter}, or choose ddim or dpmpp with eta 0"
        raise RequestRefused(parameter, f"The run should draw no noise on its way with mode ddim: {advice}")
    if isinstance(params.label, tuple):
        raise RequestRefused("label", "Input should be one with mode ddim: both images are inverted with it")
    for name, values in params.conditions.items():
        if len(values) > 1:
            raise RequestRefused(
                "condition", f"{name}: Input should be one with mode ddim, as both images are inverted"
            )
    make_inversion(model.schedule, steps=params.steps, prediction=model.config.prediction, start=depth)
    return Prepared(params, _task(query, depth), plan=plan)


def _task(query: InterpolateQuery, depth: int) -> Interpolation:
    return Interpolation(shares=tuple(query.shares), depth=depth, mode=query.mode, noise=query.noise)


def _between_seeds(query: InterpolateQuery, model: ModelInfo) -> Prepared:
    for name in OF_IMAGES:
        query.only(name, InterpolateQuery.model_fields[name].default, TWO_SEEDS)
    assert query.seed is not None
    first, second = query.seed
    seeds, shares = (first, second), tuple(query.shares)
    given = read_values(query.conditions, model.config.conditions, model=model.name)
    ends = [_values_at(end, given, len(shares)) for end in range(2)]
    asked = query if query.chosen.get("eta") else _without_noise(query, model)
    params, plan = fill_in(asked.model_copy(update={"seed": [first]}), model, values=ends[0], with_examples=True)
    one, other = (
        fill_in_conditions(params.model_copy(update={"seed": (seed,) * params.n, "conditions": end}), model.config)
        for seed, end in zip(seeds, ends, strict=True)
    )
    rows = [mixed(one.conditions_of(index), other.conditions_of(index), share) for index, share in enumerate(shares)]
    columns = {name: tuple(row[name] for row in rows) for name in one.conditions}
    conditions = {name: values[:1] if len({*values}) == 1 else values for name, values in columns.items()}
    check_size(conditions)
    params = params.model_copy(update={"conditions": conditions})
    task = Interpolation(shares=shares, depth=None, seeds=seeds)
    filled_in = frozenset(conditions).difference(given)
    return Prepared(params, task, plan=plan, filled_in=filled_in, asked=(one.conditions, other.conditions))


def _values_at(end: int, given: Values, count: int) -> Values:
    """Returns the conditions of one of the two ends: two values are for the ends, unless there are two images."""
    return {name: values[end : end + 1] if len(values) == 2 != count else values for name, values in given.items()}


def _without_noise(query: InterpolateQuery, model: ModelInfo) -> InterpolateQuery:
    """Returns a query with eta 0, and with ddim where the model's sampler draws noise all the same; not in a plan."""
    if query.plan is not None:
        return query
    always_noisy = "sampler" not in query.chosen and SAMPLERS[model.config.defaults.sampler].always_noisy
    return query.model_copy(update={"eta": 0.0} | ({"sampler": "ddim"} if always_noisy else {}))


def fits(query: InterpolateQuery, model: ModelInfo) -> dict[str, Fit]:
    if query.has_two_seeds:
        return {}
    return dict.fromkeys(KIND.required, partial(fit, shape=model.config.shape, how=query.fit))


KIND = Kind(
    "interpolate",
    "Interpolate between two images or seeds",
    InterpolateQuery,
    Interpolation,
    complete,
    fits,
    required=("image_a", "image_b"),
    instead=TWO_SEEDS,
    description="With several `lambda` the answer is a strip from one image to the other, or an animation with "
    "`Accept: image/apng`. Two `seed` and no images give the images between those that `/generate` draws from them.",
    implied=("n",),
)
