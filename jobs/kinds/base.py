"""What every kind of job has: a query, a task that answers for itself, and the way from the one to the other."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from PIL.Image import Image
from pydantic import Field

from model.plans.clipping import ClipMode
from model.plans.samplers import Variance
from model.plans.settings import Choices
from model.plans.spacing import RULES

from ..catalog import ModelInfo
from ..errors import RequestRefused
from ..images.fitting import FittedImage
from ..params import MAX_IMAGES, MAX_SEED, SamplerName, SamplingParams, SpacingName, choices_of
from ..values import Frozen

DRAWN_SEEDS = 2**32  # enough that two are never the same, and short enough to be read out


class SamplingQuery(Frozen):
    """Query parameters of every kind, as the client sent them; None leaves a choice to the model."""

    n: int = Field(default=1, ge=1, le=MAX_IMAGES, description="number of images")
    steps: int | None = Field(default=None, ge=1, description="network calls for each image, at most the model's T")
    sampler: SamplerName | None = Field(default=None, description="by default the model's")
    spacing: SpacingName | None = Field(
        default=None,
        examples=list(RULES),
        description=f"which timesteps are visited: {', '.join(RULES)}, or the steps of as many equal sections, as in "
        "90,60,60,20,20",
    )
    eta: float | None = Field(default=None, ge=0, le=1, description="stochasticity; ddim only")
    variance: Variance | None = Field(default=None, description="of the noise that each step adds; ddpm only")
    clip: ClipMode | None = Field(default=None, description="what happens to each predicted image on the way")
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="of image 0; image i has seed + i")
    label: str | None = Field(default=None, max_length=100, description="class, by name or index")
    guidance_scale: float | None = Field(
        default=None, ge=0, le=100, description="of classifier-free guidance; 1 is off; needs a label"
    )
    classifier_scale: float | None = Field(
        default=None, ge=0, le=100, description="of guidance by the model's classifier; 0 is off; needs a label"
    )
    model: str | None = Field(default=None, max_length=64, description="by default the first")

    @property
    def choices(self) -> Choices:
        """What a model's `settle` is asked for."""
        return choices_of(self)

    def request_hash(self, kind: str, images: Sequence[str] = ()) -> str:
        """The same for the same request: of what was sent, not of what was filled in (the seed may be drawn).

        Args:
            images: SHA-256 of those that came with it.
        """
        sent = {"kind": kind, **self.model_dump(exclude_unset=True), "pictures": list(images)}
        return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()

    def only(self, name: str, value: object, where: str) -> None:
        """Refuses a parameter that has one possible value here, unless it has that.

        Raises:
            RequestRefused: if it has another.
        """
        if name in self.model_fields_set and getattr(self, name) not in (None, value):
            raise RequestRefused(name, f"Is always {value} with {where}")


class ImageQuery(SamplingQuery):
    """With an image that has to be brought to the model's size."""

    fit: Literal["cover", "contain"] = Field(
        default="cover", description="how an image is brought to the model's size: cropped, or padded with white"
    )


class Task(Frozen):
    """What a job does, and what is asked of every kind. Kinds add their own fields, and override what differs.

    Attributes:
        kind: its name; the endpoint's too.
    """

    kind: str
    lies_between_its_images: ClassVar[bool] = False  # so that an answer shows both at its ends

    def answers(self, params: SamplingParams) -> int:
        """Images that the job ends with."""
        return params.n

    def image_steps(self, params: SamplingParams) -> int:
        """The unit of work and of backlog: images times network calls."""
        return params.image_steps

    def seed(self, params: SamplingParams, index: int) -> int:
        """Of one image of the answer: the seed that makes it by itself."""
        return params.seed + index

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        """What the PNG of an answer says about it beside the sampling parameters.

        Args:
            images: SHA-256 of those that were sent.
        """
        return {**self.model_dump(mode="json"), "pictures": list(images)}

    def label(self, params: SamplingParams, index: int) -> str:
        """What tells one image of the answer from the others in a file's name."""
        return f"{self.seed(params, index)}-{self.kind}"


@dataclass(frozen=True)
class Prepared:
    """A complete request.

    Attributes:
        params: with nothing left open.
        task: what is done, and what only this kind of job has.
        images: that came with it, in the order in which the worker gets them.
    """

    params: SamplingParams
    task: Task
    images: tuple[FittedImage, ...] = ()


Fit = Callable[[Image], FittedImage]
Query = TypeVar("Query", bound=SamplingQuery)


@dataclass(frozen=True)
class Kind(Generic[Query]):
    """A kind of job: an endpoint, a command, and half of what workers know of it (`worker.kinds` has the other).

    Attributes:
        name: of the endpoint and of the task.
        summary: of what it makes, for the documentation.
        description: more about it; may be empty.
        query: its parameters.
        task: what a job of it holds.
        prepare: from a query and the images that came with it to a complete request. Raises RequestRefused or PlanError
            if the model cannot do what is asked, and ImageRefused if an image does not fit the others.
        fits: what becomes of each image that is read. Called before any is, so that a request which no image could save
            is refused at once; raises as `prepare` does.
        required: names of the images that must come with it.
        optional: names of the images that may.
        command: its name on the command line.
        implied: parameters that follow from others, so that the command line has no use for them.
    """

    name: str
    summary: str
    query: type[Query]
    task: type[Task]
    prepare: Callable[[Query, ModelInfo, Mapping[str, FittedImage]], Prepared]
    fits: Callable[[Query, ModelInfo], dict[str, Fit]] = lambda query, model: {}
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    description: str = ""
    command: str = ""
    implied: tuple[str, ...] = ()


def fill_in(query: SamplingQuery, model: ModelInfo, *, start: int | None = None) -> SamplingParams:
    """Decides all that a request left open, draws the seed, and makes sure that there is such a run.

    Args:
        start: the timestep where the run begins, if that is not T-1.

    Raises:
        RequestRefused, PlanError: if the model cannot do what is asked.
    """
    settings = model.config.settle(start=start, **query.choices)
    model.config.plan(model.schedule, start=start, **choices_of(settings))
    label = _class_index(query.label, model)
    return SamplingParams(
        n=query.n,
        **vars(settings),
        seed=secrets.randbelow(DRAWN_SEEDS) if query.seed is None else query.seed,
        label=label,
        guidance_scale=_guidance_scale(query.guidance_scale, label, model),
        classifier_scale=_classifier_scale(query.classifier_scale, label, model),
    )


def _class_index(label: str | None, model: ModelInfo) -> int | None:
    """Index of the class that a label means: of the network, or else of the classifier that can guide it."""
    if label is None:
        if model.label_required:
            raise RequestRefused("label", f"{model.name} makes no image without one")
        return None
    classes, count = model.config.classes, model.config.num_labels
    if not count:
        raise RequestRefused("label", f"{model.name} has no classes")
    if classes is not None and label in classes:
        return classes.index(label)
    if label.isascii() and label.isdigit() and int(label) < count:
        return int(label)
    raise RequestRefused("label", f"Should be a class of {model.name}, by name or index 0 to {count - 1}")


def _guidance_scale(scale: float | None, label: int | None, model: ModelInfo) -> float:
    if scale is None or scale == 1.0:
        return 1.0
    if model.config.classes is None:
        raise RequestRefused("guidance_scale", f"{model.name} has no classes to guide by")
    if model.label_required:
        raise RequestRefused("guidance_scale", f"{model.name} did not learn to draw without a label")
    if label is None:
        raise RequestRefused("guidance_scale", "Needs a label")
    return scale


def _classifier_scale(scale: float | None, label: int | None, model: ModelInfo) -> float:
    """Off unless asked for; but a label of a network without classes means guidance by its classifier."""
    if scale is None:
        return 1.0 if model.config.classes is None and label is not None else 0.0
    if scale and model.config.classifier is None:
        raise RequestRefused("classifier_scale", f"{model.name} has no classifier")
    if scale and label is None:
        raise RequestRefused("classifier_scale", "Needs a label")
    return scale
