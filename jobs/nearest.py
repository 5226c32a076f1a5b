"""The conditions of a picture that comes without any: those of the model's example that is nearest to it.

A worker finds them before it draws. It predicts x̂_0 once from the picture's x_t for each value of each condition, with
this value alone. The distance of an example is the sum of the errors that its values lead to (Li et al. 2023, "Your
diffusion model is secretly a zero-shot classifier"). A whole example is chosen, because what is nearest to a photograph
one by one, such as a mask under glasses, is drawn badly together.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from difuso.model.conditions import Example, Value
from difuso.model.folders.config import ModelConfig
from difuso.model.plans.schedule import NoiseSchedule

# The most that is left of a picture, as its share of the variance of x_t. A picture of which more is left shows itself
# what it is, and each value that is found wrong spoils it.
MOST_LEFT = 0.15
MOST_PROBES = 128  # network calls; faces64 has 89 values

Probe = tuple[str, Example]
"""A value of a condition, by its name."""


def least_depth(schedule: NoiseSchedule) -> int:
    """Returns the first timestep at which little enough is left of a picture; T if there is none."""
    return int(np.count_nonzero(schedule.alphas_cumprod > MOST_LEFT))


def probes_of(config: ModelConfig) -> tuple[Probe, ...]:
    """Returns the values to try: of each condition all in the model's examples, or equally many of the commonest."""
    counts = {name: Counter(values) for name, values in config.examples.items()}
    fits = [
        most
        for most in range(1, MOST_PROBES + 1)
        if sum(min(most, len(each)) for each in counts.values()) <= MOST_PROBES
    ]
    most = max(fits, default=1)
    return tuple((name, value) for name, each in counts.items() for value, _ in each.most_common(most))


def nearest(config: ModelConfig, probes: Sequence[Probe], errors: Sequence[float]) -> dict[str, tuple[Value, ...]]:
    """Returns the conditions of the nearest example, as jobs hold them: one value for all images.

    Args:
        probes: those of `probes_of`.
        errors: the error of the x̂_0 that each of them leads to.
    """
    found: dict[str, dict[Example, float]] = {}
    for (name, value), error in zip(probes, errors, strict=True):
        found.setdefault(name, {})[value] = error
    distances = np.sum([_errors(values, found[name]) for name, values in config.examples.items()], axis=0)
    row = int(distances.argmin())
    return {name: (values[row],) for name, values in config.examples.items()}


def _errors(values: Sequence[Example], found: Mapping[Example, float]) -> list[float]:
    """Returns the error of each value: of a number that of the nearest one, and infinity of a choice not tried."""
    numbers = [each for each in found if not isinstance(each, str)]
    known = {
        value: found.get(value, np.inf)
        if isinstance(value, str)
        else found[min(numbers, key=lambda number: abs(number - value))]
        for value in set(values)
    }
    return [known[value] for value in values]
