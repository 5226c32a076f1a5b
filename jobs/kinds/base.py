"""The parts of every kind of job: a query, a task, and a function that makes the task from the query."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, field_validator

from model.bounds import PLAN_NAME
from model.plans.clipping import ClipMode
from model.plans.samplers import Variance
from model.plans.spacing import RULES

from ..cascade import Enlarging
from ..catalog import Catalog, ModelInfo
from ..cost import NOTHING, Cost, cost_of, guided_steps_of
from ..errors import RequestRefused
from ..images.arrays import SentImage
from ..images.fitting import FittedImage
from ..moments import MAX_MOMENTS, MomentName, Trace, check_trace, trace_of
from ..params import MAX_IMAGES, TAG, Eta, SamplerName, SamplingParams, Seed, Sigma, SpacingName
from ..per_image import ALL
from ..values import Bits, Frozen


class SamplingQuery(Frozen):
    """Query parameters of every kind, as the client sent them; None means the default of the model."""

    n: int | None = Field(
        default=None,
        ge=1,
        le=MAX_IMAGES,
        examples=[4],
        description="number of images; by default 1, or as many as there are seeds or labels",
    )
    steps: int | None = Field(
        default=None, ge=1, examples=[50], description="network calls for each image, at most the model's T"
    )
    sampler: SamplerName | None = Field(default=None, description="sampler; by default the model's")
    plan: str | None = Field(
        default=None,
        pattern=f"^{PLAN_NAME}$",
        description="name of one of the model's plans, which then replaces the model's defaults",
    )
    spacing: SpacingName | None = Field(
        default=None,
        examples=list(RULES),
        description=f"choice of the timesteps: {', '.join(RULES)}, the numbers of steps in equal sections, such as "
        "90,60,60,20,20, or a list, such as at:12.5,160,999",
    )
    eta: Eta | None = Field(default=None, description="stochasticity: up to 1 for ddim, 10 for dpmpp, 0 for the others")
    variance: Variance | None = Field(default=None, description="variance of the noise of each step; ddpm only")
    clip: ClipMode | None = Field(default=None, description="clipping of the predicted image at each step")
    seed: list[Seed] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IMAGES,
        examples=[[7]],
        description="seed of image 0, where image i has seed + i; repeat it for one image of each seed",
    )
    label: list[Annotated[str, Field(max_length=100)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_IMAGES,
        description=f"class, by name or index; repeat it for one image of each, or say {ALL} for the classes in turn",
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="scale of guidance by a weaker network, or without one classifier-free, which needs a label; 1 is "
        "off",
    )
    guidance_low: Sigma | None = Field(
        default=None,
        description="noise level, as sigma, above which guidance_scale acts; by default the model's, or 0",
    )
    guidance_high: Sigma | None = Field(
        default=None,
        description="noise level, as sigma, up to which guidance_scale acts; by default the model's, or 1000000, "
        "which is no limit",
    )
    classifier_scale: float | None = Field(
        default=None, ge=0, le=100, description="scale of guidance by the model's classifier; 0 is off; needs a label"
    )
    model: str | None = Field(
        default=None,
        max_length=64,
        description="name of the model; by default the first, unless the server has another",
    )
    tag: str | None = Field(
        default=None,
        pattern=TAG,
        examples=["poster"],
        description="a word of your own, which the job shows and a list of jobs can be asked for",
    )
    bits: Literal["8", "16"] = Field(
        default="8", description="bits of each pixel in the answer; 16 is for models whose images are not RGB"
    )
    trace: list[MomentName] = Field(
        default=[],
        max_length=MAX_MOMENTS,
        examples=[["last"], ["1", "last"]],
        description="network calls whose x_t and x0 are kept as floats: by number, last or all; may be repeated",
    )

    @field_validator("seed", "label", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        """Returns a single value as a list of one, which means the same."""
        return value if value is None or isinstance(value, list | tuple) else [value]

    def request_hash(self, kind: str, images: Sequence[str] = ()) -> str:
        """Returns a hash of the request as it was sent, without defaults and the drawn seed.

        Args:
            kind: the name of the kind of job.
            images: the SHA-256 of each fitted image of the request.
        """
        sent = {"kind": kind, **self.model_dump(exclude_unset=True), "pictures": list(images)}
        for name in ("seed", "label"):  # a single one counts as it did before there were lists
            if len(sent.get(name) or ()) == 1:
                (sent[name],) = sent[name]
        return hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()

    def only(self, name: str, value: object, where: str) -> None:
        """Returns if a parameter is absent or has the only value that is possible here.

        Args:
            name: the name of the parameter.
            value: its only possible value; None if there is none.
            where: the place where this is so, for the message: "mode ddim".

        Raises:
            RequestRefused: if it has another value.
        """
        if name in self.model_fields_set and getattr(self, name) not in (None, value):
            raise RequestRefused(name, f"Should be {'omitted' if value is None else value} with {where}")


class ImageQuery(SamplingQuery):
    """Query parameters of every kind that takes images."""

    fit: Literal["cover", "contain"] = Field(
        default="cover", description="how images get the size of the model: cropped, or padded with white"
    )


class Task(Frozen):
    """The task of a job. Each kind adds its own fields, and overrides methods that differ.

    Attributes:
        kind: the name of the kind, and of its endpoint.
        is_passage: whether the result leads from one end to the other, so that sheets are rows. The ends are the images
            of the request, if there are any; sheets include them.
        needs_condition: whether the model must be one that draws from an image; all others must not be.
    """

    kind: str
    is_passage: ClassVar[bool] = False
    needs_condition: ClassVar[bool] = False

    @property
    def has_parameters(self) -> bool:
        """Whether the kind has parameters of its own, beside those of the sampling."""
        return set(type(self).model_fields) > {"kind"}

    @property
    def start(self) -> int | None:
        """The timestep at which its images begin; None for T-1."""
        return None

    @property
    def second_stage(self) -> Enlarging | None:
        """How another model enlarges the images; None if none does."""
        return None

    def answers(self, params: SamplingParams) -> int:
        """Returns the number of images in the result."""
        return params.n

    def image_steps(self, params: SamplingParams, guided_steps: int | None = None) -> int:
        """Returns the work of the job: images times network calls; `guided_steps` as in `SamplingParams.calls`."""
        return params.n * params.calls(guided_steps)

    def abreast(self, params: SamplingParams) -> float:
        """Returns how many images step side by side, on average over the run."""
        return params.n

    def seed(self, params: SamplingParams, index: int) -> int:
        """Returns the seed that makes image `index` of the result by itself."""
        return params.seed_of(index)

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        """Returns the text of image `index` of the result, in addition to the sampling parameters.

        Args:
            images: the SHA-256 of each fitted image of the request.
        """
        return {**self.model_dump(mode="json"), "pictures": list(images)}

    def file_stem(self, params: SamplingParams, index: int) -> str:
        """Returns a name that distinguishes image `index` of the result from the others, for its file name."""
        return f"{self.seed_and_class(params, index)}-{self.kind}"

    def seed_and_class(self, params: SamplingParams, index: int) -> str:
        """Returns the seed of image `index` of the result, with its class if the images have several."""
        seed = str(self.seed(params, index))
        return f"{seed}-class{params.label_of(index)}" if isinstance(params.label, tuple) else seed


@dataclass(frozen=True)
class Prepared:
    """A complete request.

    Attributes:
        params: the sampling parameters, all filled in.
        task: the kind of the job, and the parameters of this kind only.
        images: the fitted images of the request, in the worker's order.
        guided_steps: the number of steps of an image that are guided, where guidance acts in some only; else None.
        trace: the network calls after which the state of each image is kept.
        bits: the bits of each pixel in the answer, 8 or 16.
        planes: the number of planes of each image in the answer; see `Shape.planes`.
        cost: what the request takes of the limits of its owner.
    """

    params: SamplingParams
    task: Task
    images: tuple[FittedImage, ...] = ()
    guided_steps: int | None = None
    trace: Trace = ()
    bits: Bits = 8
    planes: int = 1
    cost: Cost = NOTHING

    @property
    def image_steps(self) -> int:
        """The work of the job."""
        return self.task.image_steps(self.params, self.guided_steps)


Fit = Callable[[SentImage], FittedImage]
Query = TypeVar("Query", bound=SamplingQuery)


@dataclass(frozen=True)
class Kind(Generic[Query]):
    """A kind of job, with its endpoint and its command; `worker.kinds` tells workers how it begins.

    Attributes:
        name: the name of the endpoint and the task.
        summary: one line for the documentation.
        description: more for the documentation; may be empty.
        query: the type of its query parameters.
        task: the type of its tasks.
        complete: makes a complete request, but for its trace and its cost, from a query and its images; raises like
            `prepare`.
        fits: returns the functions that fit the images, by part. It is called before an image is read, so that a wrong
            query is refused at once; raises like `prepare`.
        choose: returns the model of a query, and any other model that the query names; raises RequestRefused.
        required: the names of the parts that a request must have.
        instead: what a request may have instead of the required parts, for messages: "two seeds"; `fits` is then empty.
            Empty if nothing replaces them.
        optional: the names of the parts that a request may have.
        command: the name of its command, if it is not `name`.
        implied: parameters that follow from others, so that the command does not have them.
    """

    name: str
    summary: str
    query: type[Query]
    task: type[Task]
    complete: Callable[[Query, ModelInfo, Mapping[str, FittedImage]], Prepared]
    fits: Callable[[Query, ModelInfo], dict[str, Fit]] = lambda query, model: {}
    choose: Callable[[Query, Catalog], ModelInfo] = lambda query, catalog: catalog.choose(query.model)
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    instead: str = ""
    description: str = ""
    command: str = ""
    implied: tuple[str, ...] = ()

    def prepare(self, query: Query, model: ModelInfo, images: Mapping[str, FittedImage]) -> Prepared:
        """Makes a complete request from a query and its images.

        Raises:
            RequestRefused, PlanError: if the model cannot run it.
            ImageRefused: if an image does not match another.
        """
        prepared = self.complete(query, model, images)
        n, steps = prepared.params.n, prepared.params.steps
        trace, shape = trace_of(query.trace, steps), model.final_shape
        check_trace(trace, n=n, steps=steps, shape=model.config.shape)
        if query.bits == "16" and shape.channels == 3:
            name = (model.upscaler or model).name
            raise RequestRefused("bits", f"Should be 8: {name} makes RGB images, whose PNGs have 8 bits here")
        whole = replace(
            prepared,
            guided_steps=guided_steps_of(prepared, model),
            trace=trace,
            bits=16 if query.bits == "16" else 8,
            planes=shape.planes,
        )
        return replace(whole, cost=cost_of(whole, model))
