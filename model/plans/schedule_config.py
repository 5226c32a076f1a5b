"""The noise schedule of a config, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..errors import ForeignError
from ..foreign.code import foreign_code
from ..foreign.names import Own, is_foreign
from .plugins import plugged
from .schedule import ContinuousLinear, Flow, NoiseSchedule
from .settings import MOST_STEPS

Beta = Annotated[float, Field(ge=1e-7, le=1)]
Sigma = Annotated[float, Field(ge=1e-6, le=1e6)]
Factor = Annotated[float, Field(ge=1e-2, le=1e2)]


def _listed(num_train_timesteps: int, betas: tuple[float, ...] = ()) -> NoiseSchedule:
    if len(betas) != num_train_timesteps:
        raise ValueError(f"betas must be {num_train_timesteps} numbers, not {len(betas)}")
    return NoiseSchedule(np.array(betas, dtype=np.float64))


BETAS, SIGMAS, FACTORS = ("beta_start", "beta_end"), ("sigma_min", "sigma_max"), ("shift", "noise_scale")
# By the types that configs name: what makes a schedule, and the parameters that it may be given.
SCHEDULES: dict[str, tuple[Callable[..., NoiseSchedule], tuple[str, ...]]] = {
    "linear": (NoiseSchedule.linear, BETAS),
    "scaled_linear": (NoiseSchedule.scaled_linear, BETAS),
    "cosine": (NoiseSchedule.cosine, ()),
    "listed": (_listed, ("betas",)),
    "geometric": (NoiseSchedule.geometric, SIGMAS),
    "continuous_linear": (ContinuousLinear.of, BETAS),
    "flow": (Flow.of, FACTORS),
}


def _own(name: str) -> tuple[Callable[..., NoiseSchedule], tuple[str, ...]]:
    """Returns what an entry of SCHEDULES has, for a plug-in's function."""
    function = plugged(name)

    def make(num_train_timesteps: int, args: Mapping[str, Any] = MappingProxyType({})) -> NoiseSchedule:
        with foreign_code(name, "be called"):
            schedule = function(num_train_timesteps, **args)
        if not isinstance(schedule, NoiseSchedule) or schedule.num_train_timesteps != num_train_timesteps:
            raise ForeignError(f"{name} must return a NoiseSchedule of {num_train_timesteps} timesteps")
        return schedule

    return make, ("args",)


COMMON = ("type", "num_train_timesteps", "zero_terminal_snr")  # the fields of every type


@dataclass(frozen=True)
class ScheduleConfig:
    """A noise schedule, by name or by its betas."""

    # name of the schedule; or a plug-in's function from the number of timesteps and `args` to a NoiseSchedule
    type: Literal["linear", "scaled_linear", "cosine", "listed", "geometric", "continuous_linear", "flow"] | Own = (
        "linear"
    )
    num_train_timesteps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 1000  # number of timesteps T
    # beta_start, beta_end: first and last beta of the linear kinds; None for the default, and for the others
    beta_start: Beta | None = None
    beta_end: Beta | None = None
    zero_terminal_snr: bool = False  # whether betas are rescaled with `NoiseSchedule.rescale_zero_terminal_snr`
    # all T betas of the type `listed`, which no formula gives; None for the others
    betas: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(max_length=MOST_STEPS)] | None = None
    # sigma_min, sigma_max: first and last sigma of the type `geometric`; None for the default, and for the others
    sigma_min: Sigma | None = None
    sigma_max: Sigma | None = None
    # shift, noise_scale: of the type `flow`, see `Flow`; None for 1, and for the others
    shift: Factor | None = None
    noise_scale: Factor | None = None
    args: Mapping[str, Any] | None = None  # arguments of a plug-in's function, by name; None for the others

    def build(self) -> NoiseSchedule:
        """Makes the schedule; raises ValueError if it does not exist with these betas or this number of timesteps."""
        given = {name: value for name, value in vars(self).items() if name not in COMMON and value is not None}
        make, parameters = _own(self.type) if is_foreign(self.type) else SCHEDULES[self.type]
        if foreign := [name for name in given if name not in parameters]:
            raise ValueError(
                f"a {self.type} schedule has no {' and no '.join(foreign)}: leave out {', '.join(foreign)}"
            )
        if self.type == "flow" and self.zero_terminal_snr:
            raise ValueError("a flow ends where nothing of the image is left: leave out zero_terminal_snr")
        schedule = make(self.num_train_timesteps, **given)
        return schedule.rescale_zero_terminal_snr() if self.zero_terminal_snr else schedule
