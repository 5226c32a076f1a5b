"""Everything about a model except its weights, as frozen values; `config_json` reads and writes them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from ..conditions import Choice, Condition, Conditions, Example, Image, Names, Value, plane_count, sequences_in
from ..errors import PlanError
from ..networks.configs import ClassifierConfig
from ..networks.network_config import NetworkConfig
from ..plans.clipping import Clipping
from ..plans.plan import Plan, Prediction, Variance, make_plan
from ..plans.prediction import Preconditioning
from ..plans.schedule import NoiseSchedule
from ..plans.schedule_config import ScheduleConfig as ScheduleConfig
from ..plans.settings import SamplerDefaults as SamplerDefaults
from ..plans.settings import Settings, settle
from ..shape import MAX_CHANNELS, ImageSize, Shape, Shown, Side
from .never import Never

Precision = Literal["float32", "bfloat16", "tf32"]
PLAN_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
PlanName = Annotated[str, Field(pattern=PLAN_NAME)]


@dataclass(frozen=True)
class ConditionConfig:
    """The image that a conditional network sees with x_t, such as the small image that it enlarges."""

    size: Side  # height and width in pixels; it is enlarged to the size of x_t, see `model.network_inputs`
    # the largest standard deviation of the noise that conditions had in training, 0..1
    max_augmentation: Annotated[float, Field(ge=0, le=1)] = 0.0
    # the standard deviation for a request that names none, at most `max_augmentation`
    augmentation: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __post_init__(self) -> None:
        if self.augmentation > self.max_augmentation:
            raise ValueError(f"augmentation must be at most max_augmentation, {self.max_augmentation:g}")


@dataclass(frozen=True)
class ModelConfig:
    """A model without its weights.

    Attributes:
        network: the network's own config; its type selects the network.
        weaker: the config of a weaker network, from whose output guidance moves away (Karras et al. 2024,
            "Guiding a Diffusion Model with a Bad Version of Itself"); None for guidance by labels.
        image_size: side of the square images in pixels, or (height, width).
        channels: number of channels of an image, 1 to MAX_CHANNELS.
        shown: the channels that pictures of an image of other than 1 or 3 channels show as red, green and blue, counted
            from 0; None for a grid of all as grey slices.
        schedule: the noise schedule of training.
        prediction: the quantity that the network predicts.
        preconditioning: how a network is called that was trained on noise levels and not on timesteps; None for others.
        variance: variance of ancestral sampling; a learned kind needs a network with outputs for it.
        clip: how the predicted x0 is clipped while sampling.
        classes: class names, None for an unconditional model.
        classifier: the noisy classifier that may guide sampling, if there is one.
        condition: the image that the network enlarges, and sees with x_t; None for a network that draws from noise.
        conditions: the other conditions of the network, by name (`model.conditions`).
        examples: the values of some images of the training, by the names of conditions, each a column. They fill in
            these conditions in requests that leave them out; without examples nothing is filled in.
        never: the choices that its training had, but never together (`model.folders.never`). Requests for them are
            drawn, with a warning.
        defaults: sampler settings for requests that name none.
        plans: sampler settings by name, for requests that name them instead.
        precision: the number format in which workers compute the networks (`model.networks.layers`); `tf32` is float32
            with products of 11 bits on a GPU, and float32 on a CPU. The steps between the calls are always float32.
        training: how the model was trained; free JSON, for people.
        instead_of: for people, what its defaults replace without drawing the same, and why; None if they replace
            nothing.

    Examples:
        >>> from difuso.model.networks.configs import UNetConfig
        >>> config = ModelConfig(UNetConfig(), image_size=(32, 48), defaults=SamplerDefaults(sampler="ddim", steps=4))
        >>> tuple(config.shape), len(config.plan(config.schedule.build()))
        ((3, 32, 48), 4)
    """

    network: NetworkConfig
    image_size: ImageSize = 64
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 3
    shown: Shown | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    prediction: Prediction = "eps"
    preconditioning: Preconditioning | None = None
    variance: Variance = "fixed_small"
    clip: Clipping = Clipping()
    classes: Names | None = None
    classifier: ClassifierConfig | None = None
    condition: ConditionConfig | None = None
    conditions: Conditions = field(default_factory=dict)
    examples: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    never: Never = ()
    weaker: NetworkConfig | None = None
    defaults: SamplerDefaults = field(default_factory=SamplerDefaults)
    plans: Mapping[PlanName, SamplerDefaults] = field(default_factory=dict)
    precision: Precision = "float32"
    training: Mapping[str, Any] = field(default_factory=dict)
    instead_of: str | None = None

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image."""
        return Shape.of(self.image_size, self.channels)

    @property
    def enlarges(self) -> bool:
        """Whether the network draws from an image, which it enlarges."""
        return self.condition is not None

    @property
    def small_shape(self) -> Shape | None:
        """(C, h, w) of the image that the network enlarges; None for a network that draws from noise."""
        if self.condition is None:
            return None
        return Shape.of(self.condition.size, self.network.condition_channels - plane_count(self.conditions))

    @cached_property
    def declared(self) -> dict[str, Condition]:
        """All conditions by name: its classes are the choice `label`, and the image that it enlarges is `image`."""
        declared = dict(self.conditions)
        if self.classes is not None:
            declared = {"label": Choice(_distinct(self.classes), null=self.network.null_class), **declared}
        if (shape := self.small_shape) is not None:
            declared["image"] = Image(shape.channels, shape.image_size)
        return declared

    @property
    def required(self) -> list[str]:
        """The names of the conditions that no image may lack, `label` among them; the image that it enlarges is not."""
        return [name for name, condition in self.declared.items() if name != "image" and not condition.null]

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the arguments of a call of the network after x_t and t, in their order."""
        inputs = {
            "labels": self.classes is not None,
            "vector": bool(self.network.vector_size),
            "planes": bool(self.network.condition_channels),
            "level": self.condition is not None,
            **dict.fromkeys(("sequence", "sequence_mask"), bool(sequences_in(self.conditions))),
        }
        return tuple(name for name, takes in inputs.items() if takes)

    @property
    def num_labels(self) -> int:
        """Number of classes that a label may name: those of the network, or else those of the classifier."""
        if self.classes is not None:
            return len(self.classes)
        return 0 if self.classifier is None else self.classifier.num_classes

    @property
    def never_guided(self) -> str | None:
        """Why only a classifier can guide it, to be read after the model's name; None if other guidance can."""
        if self.weaker is not None or any(condition.null for condition in self.declared.values()):
            return None
        if self.classes is None and not self.conditions:
            return "has no classes"
        return f"was not trained without {'its conditions' if self.conditions else 'labels'}"

    def left_out(self, given: Collection[str], guide: Collection[str] | None = None) -> frozenset[str]:
        """Returns those of the given conditions, `label` among them, that the base of guidance lacks.

        `guide` has the names of those that guidance acts on; None stands for all that may be left out.
        """
        may = {name for name, condition in self.declared.items() if condition.null and name in given}
        return frozenset(may if guide is None else may.intersection(guide))

    def accepts(
        self,
        label: int | None,
        settings: Settings | None = None,
        *,
        values: Mapping[str, Value] = MappingProxyType({}),
        guide: Collection[str] | None = None,
    ) -> bool:
        """Returns whether the network, and whatever guides it with these settings, accept an image's conditions.

        A `label` of None is no class; for `guide` see `left_out`.
        """
        settings = settings or Settings()
        named = {*values, *(() if label is None else ("label",))}
        if not named.issuperset(self.required):
            return False
        if not all(name in self.conditions and self.conditions[name].takes(value) for name, value in values.items()):
            return False
        if settings.guidance_scale != 1.0 and self.weaker is None:
            dropped = self.left_out(named, guide)
            if not dropped or dropped < {*(guide or ())}:
                return False
        if label is None:
            return not settings.classifier_scale
        return label < self.num_labels

    def settle(self, *, plan: str | None = None, start: int | None = None, **choices: Any) -> Settings:
        """Completes the chosen settings of a run; see `plans.settings.settle`.

        Runs that begin at an image take at most eta 1 from the model. With more they still draw good images, but forget
        the image: only eta 1 draws from p(x_0 | x_t). Nor do they take the model's guidance.

        Args:
            plan: the name of the plan that completes them; None for the defaults.
            start: the timestep of the image where the run begins; None for a run that begins with noise, at T-1.
            choices: the settings that a request chooses.

        Raises PlanError if there is no such plan, or if the choices contradict each other or the model.
        """
        if plan is not None and plan not in self.plans:
            known = f"must be one of {', '.join(self.plans)}" if self.plans else "must be omitted: this model has none"
            raise PlanError(known, "plan")
        defaults = self.defaults if plan is None else self.plans[plan]
        own = Settings(**vars(defaults), variance=self.variance, clip=self.clip.mode)
        if start is None:
            return settle(choices, own, timesteps=self.schedule.num_train_timesteps)
        return settle(choices, replace(own, eta=min(own.eta, 1.0), guidance_scale=1.0), timesteps=start + 1)

    def plan(self, schedule: NoiseSchedule, *, start: int | None = None, **choices: Any) -> Plan:
        """Makes the plan of one sampling run of this model, whose open settings `settle` completes.

        Raises PlanError if the model has no such run.
        """
        return self.plan_of(schedule, self.settle(start=start, **choices), start=start)

    def plan_of(self, schedule: NoiseSchedule, settings: Settings, *, start: int | None = None) -> Plan:
        """Makes the plan of settled settings; see `make_plan`. Raises PlanError if the model has no such run."""
        if settings.classifier_scale and self.classifier is None:
            raise PlanError("must be 0, because this model has no classifier", "classifier_scale")
        if settings.variance.startswith("learned") and settings.variance != self.variance:
            learned = f"{settings.variance} was not learned by this model"
            raise PlanError(f"{learned}, whose own variance is {self.variance}", "variance")
        clipping = self.clip.with_mode(settings.clip)
        return make_plan(schedule, settings, prediction=self.prediction, clipping=clipping, start=start)


def _distinct(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns texts by which a request can name each class: its name, or its index if it has none of its own."""
    known = frozenset(classes)
    named: dict[str, None] = {}
    for index, name in enumerate(classes):
        if not name or name in named:
            name = str(index)
            while name in known:
                name = f"0{name}"
        named[name] = None
    return tuple(named)
