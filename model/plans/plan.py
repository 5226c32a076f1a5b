"""The plan: every sampler is a table with one row per network call.

The network is called at the row's timestep t. Then, with `out` the network's output and z standard normal,

    out = base + W (out - base)                                    only where W is not 1
    x0  = clip(X0_X x_t + X0_OUT out)  +  G w^2 gradient           w = exp(V (out_v + 1) / 2)
    x'  = A x_t + B x0 + OUT out + C kept_1 + D kept_2 + H kept_3 + S w z   z is drawn only where S is not 0
    kept = KEEP_X x_t + KEEP_X0 x0                                          nothing is kept where both are 0

The first line is guidance without a classifier, see `model.guidance`; the second converts the prediction to x0 and adds
the guidance of a classifier; the others are the sampler. kept_1 is what was kept last, kept_2 what was kept before it,
and kept_3 what was kept before that: most samplers keep x0, and linear multistep solvers keep the noise. If a network
learned its variance, out_v is the second half of its output; otherwise w is 1.
Samplers differ only in these numbers, so a batch may mix rows of any plans.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, get_args

import numpy as np

from ..errors import PlanError
from ..guidance import UNGUIDED, Guidance
from .clipping import Clipping
from .prediction import Prediction, eps_from_output, x0_from_output
from .samplers import SAMPLERS, Sampler
from .samplers.transition import Options, Transition, Variance, eps_guidance
from .schedule import FloatTable, NoiseSchedule
from .settings import SETTINGS, Settings, check_names
from .spacing import KARRAS, Levels, ends_at_noise, timesteps_from, visit_levels

# Ancestral sampling with variance beta adds far too much noise on a coarse chain: FID 46 at 100 steps, where
# fixed_small has 11 (CIFAR-10). With fewer steps than this it is refused.
FIXED_LARGE_MIN_STEPS = 500

KNOWN_PLANS = 64  # the last ones are kept, because most requests have the settings of others: 0.1 MB for 1000 calls

CLEAN = -1.0  # stands for the timestep of an image without noise: at timestep 0 there is a little


class Column(IntEnum):
    """Columns of `Plan.table`."""

    X0_X = 0
    X0_OUT = 1
    CLIP = 2  # x0 is clamped to [-CLIP, CLIP]; infinity for no clipping
    QUANTILE = 3  # the quantile of |x0| that is the threshold, with CLIP as its limit; 0 for a fixed threshold
    G = 4
    A = 5
    B = 6
    OUT = 7
    C = 8
    D = 9
    S = 10
    V = 11
    W = 12  # the scale of guidance without a classifier; where it is 1 there is no base
    H = 13
    KEEP_X = 14
    KEEP_X0 = 15


@dataclass(frozen=True, eq=False)
class Plan:
    """One sampling run.

    Attributes:
        timesteps: the timesteps at which the network is called, in order, shape (K,); fractional only on a grid of
            sigma and in a list.
        table: the coefficients, float64, shape (K, 16), one row per call; see `Column`.

    Examples:
        >>> plan = make_plan(NoiseSchedule.linear(), sampler="ddim", steps=4)
        >>> plan.timesteps, plan.stochastic
        ((750, 500, 250, 0), False)
    """

    timesteps: tuple[float, ...]
    table: FloatTable
    # timestep and alphas_cumprod of x_t after each call, shape (2, K), if the spacing lists noise levels; None if they
    # follow from the timesteps
    after: FloatTable | None = None

    def __post_init__(self) -> None:
        self.table.flags.writeable = False

    def __len__(self) -> int:
        return len(self.timesteps)

    @cached_property
    def by_classifier(self) -> bool:
        """Whether a classifier guides the run."""
        return bool(self.table[:, Column.G].any())

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """W of each row."""
        return tuple(self.table[:, Column.W].tolist())

    @cached_property
    def costs(self) -> tuple[int, ...]:
        """The network calls that each row takes: one, and one for each kind of guidance."""
        return tuple(1 + (scale != 1.0) + self.by_classifier for scale in self.scales)

    @cached_property
    def keeps(self) -> tuple[bool, ...]:
        """Whether each row keeps something; where it does not, what was kept stays."""
        return tuple(bool(row[[Column.KEEP_X, Column.KEEP_X0]].any()) for row in self.table)

    @cached_property
    def memory(self) -> int:
        """How many of the last things kept its rows weigh, from 1 to 3; the last one counts always."""
        used = (self.table[:, column].any() for column in (Column.H, Column.D))
        return 3 - [*used, True].index(True)

    @cached_property
    def spent(self) -> tuple[int, ...]:
        """The network calls that the rows before each row take, and at the end those of all rows."""
        return tuple(accumulate(self.costs, initial=0))

    @cached_property
    def stochastic(self) -> bool:
        """Whether noise is drawn on the way, in addition to that of the beginning."""
        return bool(self.table[:, Column.S].any())


def make_plan(
    schedule: NoiseSchedule,
    settings: Settings | None = None,
    *,
    prediction: Prediction = "eps",
    clipping: Clipping | None = None,
    start: int | None = None,
    **choices: Any,
) -> Plan:
    """Makes the table of coefficients of one sampling run.

    Args:
        schedule: the noise schedule of training.
        settings: the settings of the run, see `model.plans.settings`; None for their defaults. A run has 1..T steps, or
            1..start+1.
        prediction: the quantity that the network predicts: the noise, the clean image,
            v = sqrt(abar) eps - sqrt(1-abar) x0, or the velocity of a flow, eps - x0.
        clipping: clipping of the predicted x0; None for the usual one of the mode that the settings name.
        start: the timestep where the run begins, whatever the spacing, with the others spaced over 0..start; None for
            T-1.
        choices: settings that replace those of `settings`, by name.

    Raises PlanError if no such run exists; the message names the parameter and its limits.

    Examples:
        >>> len(make_plan(NoiseSchedule.cosine(), sampler="dpmpp", spacing="trailing", steps=25, prediction="v"))
        25
    """
    check_names(choices)
    settings = Settings(**{name: getattr(settings or Settings(), name) for name in SETTINGS} | choices)
    return _plan(schedule, settings, prediction, clipping or Clipping().with_mode(settings.clip), start)


@lru_cache(KNOWN_PLANS)
def _plan(
    schedule: NoiseSchedule, settings: Settings, prediction: Prediction, clipping: Clipping, start: int | None
) -> Plan:
    if settings.sampler not in SAMPLERS:
        raise PlanError(f"{settings.sampler!r} is not known: choose one of {', '.join(SAMPLERS)}", "sampler")
    sampler, steps = SAMPLERS[settings.sampler], settings.steps
    _check_noise(settings, sampler)
    most = timesteps_from(schedule, start)
    if not 1 <= steps <= most:
        raise PlanError(f"must lie between 1 and {most}", "steps", got=steps)
    below_pure_noise = settings.spacing == KARRAS and schedule.continuous
    if not sampler.from_pure_noise and not below_pure_noise and not schedule.alphas_cumprod[most - 1]:
        raise PlanError(
            f"{settings.sampler} needs a little of the image at its noisy end; choose "
            f"{'spacing karras' if schedule.continuous else 'ddim'} for this model",
            "sampler",
        )
    # A run that ends at a level of noise is one to an image, without the last call.
    calls = steps + ends_at_noise(settings.spacing)
    levels = visit_levels(schedule, settings.spacing, sampler.levels(calls), start=start)
    fewest = min(FIXED_LARGE_MIN_STEPS, most)
    if sampler.has_variance and settings.variance == "fixed_large" and steps < fewest:
        raise PlanError(
            f"must be at least {fewest} with variance fixed_large, which leaves far too much noise in fewer: choose "
            "variance=fixed_small",
            "steps",
            got=steps,
        )
    options = Options(settings.eta, settings.variance, clipping.keep_eps, even=calls % 2 == 0)
    transitions = sampler.transitions(levels.chain, options)
    if len(transitions) < steps:
        raise PlanError(f"{settings.sampler} makes {len(transitions)} rows for {steps} calls", "sampler")
    plan = tabulate(
        levels,
        transitions[:steps],
        prediction=prediction,
        clipping=clipping,
        guidance=settings.guidance,
        classifier_scale=settings.classifier_scale,
    )
    if "@" not in settings.spacing:
        return plan
    reached = [(levels.timesteps[t.level], levels.chain.alphas_cumprod[t.level]) for t in transitions[1:]]
    return replace(plan, after=np.array([*reached, (CLEAN, 1.0)][:steps]).T)


def _check_noise(settings: Settings, sampler: Sampler) -> None:
    """Checks the settings of the noise of each step."""
    if settings.eta and not sampler.most_eta:
        raise PlanError(f"is not a parameter of {settings.sampler}", "eta")
    if not 0.0 <= settings.eta <= sampler.most_eta:
        raise PlanError(f"must lie between 0 and {sampler.most_eta:g}", "eta", got=settings.eta)
    if settings.variance not in get_args(Variance):
        known = ", ".join(get_args(Variance))
        raise PlanError(f"{settings.variance!r} is not known: choose one of {known}", "variance")


def tabulate(
    levels: Levels,
    transitions: list[Transition],
    *,
    prediction: Prediction,
    clipping: Clipping,
    guidance: Guidance = UNGUIDED,
    classifier_scale: float = 0.0,
) -> Plan:
    """Makes the table of transitions in terms of the network's output; raises PlanError if it gives no x0."""
    table = np.zeros((len(transitions), len(Column)))
    table[:, Column.CLIP], table[:, Column.QUANTILE] = clipping.columns
    table[:, Column.W] = guidance.weights(levels.chain.sigmas)[[t.level for t in transitions]]
    for row, t in zip(table, transitions, strict=True):
        abar = float(levels.chain.alphas_cumprod[t.level])
        eps_x, eps_out = eps_from_output(prediction, abar) if t.e else (0.0, 0.0)
        row[Column.X0_X], row[Column.X0_OUT] = x0_from_output(prediction, abar)
        row[Column.G] = classifier_scale * (eps_guidance(abar) if t.g is None else t.g)
        row[Column.A], row[Column.B], row[Column.OUT] = t.a + t.e * eps_x, t.b, t.e * eps_out
        row[Column.C], row[Column.D], row[Column.S], row[Column.V] = t.c, t.d, t.s, t.v
        row[Column.H], (row[Column.KEEP_X], row[Column.KEEP_X0]) = t.h, t.keep
    return Plan(tuple(levels.timesteps[t.level] for t in transitions), table)


def levels_after(plan: Plan, schedule: NoiseSchedule, calls: Sequence[int]) -> tuple[FloatTable, FloatTable]:
    """Returns the timesteps of x_t after so many calls, 1 to len(plan), and alphas_cumprod there, each of shape
    (len(calls),).

    After a call x_t is at the timestep of the next one. After the last it is an image: timestep CLEAN, alphas_cumprod
    1, but for runs that end at a noise level.
    """
    if plan.after is not None:
        timesteps, alphas_cumprod = plan.after[:, np.array(calls) - 1]
        return timesteps, alphas_cumprod
    timesteps = np.array([*plan.timesteps, CLEAN])[list(calls)]
    between = 1.0 / (1.0 + schedule.sigma_at(timesteps) ** 2)
    whole = schedule.alphas_cumprod[timesteps.astype(int)]
    return timesteps, np.where(timesteps == CLEAN, 1.0, np.where(timesteps % 1, between, whole))


__all__ = ["Column", "Plan", "Prediction", "Variance", "make_plan", "tabulate"]
