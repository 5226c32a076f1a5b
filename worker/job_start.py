"""How a job begins: its trajectories at their first rows, and what they wait for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from difuso.model.conditions import Value
from difuso.model.plans.plan import Plan

from .stepping.runner import Runner
from .stepping.trajectory import Trajectory


class Seen(NamedTuple):
    """The picture of a request as the network sees it, on its device, by which conditions can be found."""

    timestep: int
    x: Tensor  # x_t of the picture, shape (C, H, W)
    y: Tensor  # what is known of the picture, shape of x
    measure: Callable[[Tensor], Tensor] = lambda image: image  # returns the same of any image


@dataclass(frozen=True, eq=False)
class JobStart:
    """The trajectories of a job, at their first rows."""

    answers: list[Trajectory]  # the trajectories that become images
    waited_for: Sequence[Trajectory] = ()  # the trajectories that have to end first, if there are any
    begin_answers: Callable[[], None] = lambda: None  # starts the answers from the ends of those; may be called again
    upscaler: Runner | None = None  # the model that steps the answers, if it is not the job's
    seen: Seen | None = None  # of the kinds that begin at a picture
    # the conditions that the trajectories before the answers have found, as a job holds them
    found: dict[str, tuple[Value, ...]] = field(default_factory=dict)

    def begin_if_ready(self) -> None:
        """Starts the answers once the trajectories that they wait for are finished. May be called again."""
        if all(each.finished for each in self.waited_for):
            self.begin_answers()

    @property
    def drawn(self) -> Sequence[Trajectory]:
        """The trajectories of the job's model that show its images: in a cascade, those that are enlarged."""
        return self.answers if self.upscaler is None else self.waited_for

    @property
    def previewed(self) -> Sequence[Trajectory]:
        """The trajectories that show how far each answer is."""
        return self.answers if self.answers[0].ready else self.drawn

    @property
    def plan(self) -> Plan:
        """The plan that the parameters of the job describe."""
        return self.drawn[0].plan
