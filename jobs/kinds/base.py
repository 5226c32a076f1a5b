"""The parts of every kind of job: a query, a task, and a function that makes the task from the query."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic import Field

from difuso.model.conditions import Condition, Image, ImageMap, Value, VectorSequence
from difuso.model.plans.plan import Plan
from difuso.model.shape import Shape, Shown

from ..cascade import Enlarging
from ..catalog import Catalog, ModelInfo
from ..conditions import Values
from ..defaults import check_guidance
from ..errors import RequestRefused
from ..images.fitting import Fitted, Sent, fit, fit_map
from ..images.sequences import fit_sequence
from ..moments import Trace, check_trace, trace_of
from ..nearest import MOST_PROBES
from ..never_seen import JobWarning, never_seen
from ..params import MAX_SEED, SamplingParams
from ..queries import ImageQuery, SamplingQuery
from ..values import Bits, Frozen


class Task(Frozen):
    """The task of a job. Each kind adds its own fields, and overrides methods that differ.

    Attributes:
        kind: the name of the kind, and of its endpoint.
        is_sequence: whether the result leads from one end to the other, so that sheets are rows. The ends are the
            images of the request, if there are any; sheets include them.
        enlarges: whether the model must be one that draws from an image; all others must not be.
    """

    kind: str
    is_sequence: ClassVar[bool] = False
    enlarges: ClassVar[bool] = False

    @property
    def has_parameters(self) -> bool:
        """Whether the kind has parameters of its own, in addition to those of the sampling."""
        return set(type(self).model_fields) > {"kind"}

    @property
    def second_stage(self) -> Enlarging | None:
        """How another model enlarges the images; None if none does."""
        return None

    def needs(self, params: SamplingParams) -> set[str]:
        """Returns what a worker has to know of the task to run it; see `Job.needs`."""
        return {f"field {self.kind}.{name}" for name in self.model_dump()}

    def answers(self, params: SamplingParams) -> int:
        """Returns the number of images in the result."""
        return params.n

    def image_steps(self, params: SamplingParams, guided_steps: int | None = None) -> int:
        """Returns the work of the job: images times network calls; `guided_steps` as in `SamplingParams.calls`."""
        return params.n * params.calls(guided_steps)

    def seed(self, params: SamplingParams, index: int) -> int:
        """Returns the seed that makes image `index` of the result by itself."""
        return params.seed_of(index)

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        """Returns what the PNG of image `index` says in addition; `images` are the SHA-256 of the request's images."""
        return {**self.model_dump(mode="json"), "pictures": list(images)}

    def file_stem(self, params: SamplingParams, index: int) -> str:
        """Returns a name of image `index` for its file, which no other image of the result has."""
        return f"{self.seed_and_class(params, index)}-{self.kind}"

    def seed_and_class(self, params: SamplingParams, index: int) -> str:
        """Returns the seed of an image, with its class and number where images differ by class or condition."""
        named = f"-class{params.label_of(index)}" if isinstance(params.label, tuple) else ""
        return f"{self.seed(params, index)}{named}{f'-{index}' if params.conditions_differ else ''}"


class FromPicture(Task):
    """A task that begins at a picture of the request.

    Attributes:
        probes: the network calls by which a worker finds the conditions of the picture, see `jobs.nearest`; 0 if the
            request says which there are.
    """

    probes: int = Field(default=0, ge=0, le=MOST_PROBES, exclude_if=lambda value: not value)

    def image_steps(self, params: SamplingParams, guided_steps: int | None = None) -> int:
        return super().image_steps(params, guided_steps) + self.probes

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        facts = super().facts(params, index, images)
        facts.pop("probes", None)  # conditions that were named make the same bytes
        return facts


@dataclass(frozen=True)
class Prepared:
    """A complete request."""

    params: SamplingParams  # the sampling parameters, all filled in
    task: Task  # the kind of the job, and the parameters of this kind only
    images: tuple[Fitted, ...] = ()  # the fitted images of the request, in the worker's order
    condition_files: tuple[Fitted, ...] = ()  # those of its conditions, in the order of `SamplingParams.uploads`
    filled_in: frozenset[str] = frozenset()  # the names of the conditions that `jobs.defaults` has filled in
    asked: tuple[Values, ...] = ()  # the conditions of both ends, where images have others; empty for those of params
    warnings: tuple[JobWarning, ...] = ()  # what the client should know about the images
    plan: Plan | None = None  # the plan of an image's run; None if nobody asks for the cost
    trace: Trace = ()  # the network calls after which the state of each image is kept
    bits: Bits = 8  # the bits of each pixel in the answer, 8 or 16
    planes: int = 1  # the number of planes of each image in the answer; see `Shape.planes`
    shown: Shown | None = None  # the channels that a picture of each shows, see `model.pictures`

    @property
    def uploads(self) -> tuple[Fitted, ...]:
        """All files that the worker reads, in its order."""
        return (*self.images, *self.condition_files)

    @property
    def sent_values(self) -> dict[str, tuple[Value, ...]]:
        """The values of conditions that the request itself has."""
        return {name: values for name, values in self.params.conditions.items() if name not in self.filled_in}

    @property
    def guided_steps(self) -> int | None:
        """The number of steps of an image that are guided; None if guidance does not depend on the noise level."""
        if self.plan is None or not self.params.guidance.limited:
            return None
        # A restoration visits the levels of this run, too. An inversion has its own, about as many of them guided.
        return sum(scale != 1.0 for scale in self.plan.scales)

    @property
    def image_steps(self) -> int:
        """The work of the job."""
        return self.task.image_steps(self.params, self.guided_steps)


Fit = Callable[[Sent], Fitted]
Images = Mapping[str, Fitted]
Query = TypeVar("Query", bound=SamplingQuery)


class Parts(NamedTuple):
    """The files that a request comes with."""

    fits: dict[str, Fit]  # the functions that fit them, by part
    optional: frozenset[str]  # the names of those that may be absent


@dataclass(frozen=True)
class Kind(Generic[Query]):
    """A kind of job, with its endpoint and its command; `worker.kinds` has how it begins."""

    name: str  # of the endpoint and the task
    summary: str  # one line for the documentation
    query: type[Query]
    task: type[Task]
    # makes a complete request, except the parts common to all kinds; raises RequestRefused, PlanError or ImageRefused
    complete: Callable[[Query, ModelInfo, Images], Prepared]
    # returns the functions that fit the images of a request, by part; without it each required part gets the shape of
    # the model's condition, or of its images
    own_fits: Callable[[Query, ModelInfo], dict[str, Fit]] | None = None
    # returns the model of a query, and any other model that the query names; raises RequestRefused
    choose: Callable[[Query, Catalog], ModelInfo] = lambda query, catalog: catalog.choose(
        query.model, version=query.version
    )
    required: tuple[str, ...] = ()  # the parts that a request must have
    optional: tuple[str, ...] = ()  # the parts that it may have
    needless: frozenset[str] = frozenset()  # those of them that it may lack wherever `own_fits` has them
    instead: str = ""  # what it may have instead of the required parts, for messages: "two seeds"
    description: str = ""  # more for the documentation
    command: str = ""  # the name of its command, if it is not `name`
    implied: tuple[str, ...] = ()  # parameters that follow from others, so that the command does not have them

    def parts(self, query: Query, model: ModelInfo) -> Parts:
        """Returns the files that a request needs: the images of the kind, and the files of the model's conditions."""
        seen = {name: each for name, each in model.config.conditions.items() if each.is_file}
        fits = {**self._fits(query, model), **{name: fit_of(each, model.config.shape) for name, each in seen.items()}}
        return Parts(fits, self.needless.union(name for name, each in seen.items() if each.null))

    def _fits(self, query: Query, model: ModelInfo) -> dict[str, Fit]:
        if self.own_fits is not None:
            return self.own_fits(query, model)
        if not self.required:
            return {}
        assert isinstance(query, ImageQuery)
        shape = model.config.small_shape or model.config.shape
        return {part: partial(fit, shape=shape, how=query.fit) for part in self.required}

    def prepare(self, query: Query, model: ModelInfo, images: Images) -> Prepared:
        """Makes a complete request from a query and its fitted images.

        Raises RequestRefused or PlanError if the model cannot run it, ImageRefused if an image does not match another.
        """
        prepared = self.complete(query, model, images)
        n, steps = prepared.params.n, prepared.params.steps
        if prepared.task.seed(prepared.params, n - 1) > MAX_SEED:
            raise RequestRefused("seed", f"Input should be at most {MAX_SEED - n + 1} for {n} images in a row")
        trace, shape = trace_of(query.trace, steps), model.final_shape
        check_trace(trace, n=n, steps=steps, shape=model.config.shape)
        if query.bits == "16" and shape.channels == 3:
            name = (model.upscaler or model).name
            raise RequestRefused("bits", f"Input should be 8: {name} makes RGB images, whose PNGs have 8 bits here")
        named = (*self.required, *self.optional)
        asked = prepared.asked or (prepared.params.conditions,)
        whole = replace(
            prepared,
            warnings=never_seen(asked, model.config.never, model=model.name),
            images=prepared.images or tuple(images[name] for name in named if name in images),
            trace=trace,
            bits=16 if query.bits == "16" else 8,
            planes=shape.planes,
            shown=model.config.shown,
        )
        if any(condition.is_file for condition in model.config.conditions.values()):
            of_conditions = {name: image for name, image in images.items() if name not in named}
            whole = _with_condition_files(whole, of_conditions, model)
        return whole


def is_probed(task: Task) -> bool:
    """Returns whether a worker finds the conditions of the picture of a task."""
    return isinstance(task, FromPicture) and task.probes > 0


def probes_for(query: SamplingQuery, model: ModelInfo, images: Images) -> int:
    """Returns the network calls that find the conditions of a picture: none if the request says which there are."""
    names_some = query.conditions is not None or images.keys() & model.config.conditions.keys()
    return 0 if names_some else len(model.probes)


def fit_of(condition: Condition, shape: Shape) -> Fit:
    """Returns the function that fits the file of a condition to a model that draws images of a shape."""
    if isinstance(condition, VectorSequence):
        return partial(fit_sequence, condition=condition)
    if isinstance(condition, ImageMap):
        return partial(fit_map, shape=shape, levels=len(condition.values), expected=condition.expected)
    assert isinstance(condition, Image)
    return partial(fit, shape=condition.shape)


def _with_condition_files(prepared: Prepared, images: Images, model: ModelInfo) -> Prepared:
    """Adds the files of the conditions to a request; raises RequestRefused if guidance needs one that is absent."""
    params, named = prepared.params, {name: (image.sha256,) for name, image in images.items()}
    params = params.model_copy(update={"conditions": {**params.conditions, **named}})
    labels = () if params.label is None else ("label",)
    given = {*params.conditions, *labels, *(model.config.examples if is_probed(prepared.task) else ())}
    check_guidance({"guidance_scale": params.guidance_scale}, params.guide, model, given=given)
    by_hash = {image.sha256: image for image in images.values()}
    uploads = tuple(by_hash[each] for each in params.uploads(model.config))
    return replace(prepared, params=params, condition_files=uploads)
