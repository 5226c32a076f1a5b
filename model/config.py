"""The content of a checkpoint's config.json: everything about a model except its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

from .bounds import check_config
from .errors import CheckpointError, PlanError
from .networks.configs import NETWORKS, AnyNetworkConfig, ClassifierConfig
from .parsing import parse
from .plans.clipping import Clipping
from .plans.plan import Plan, Prediction, Variance, make_plan
from .plans.preconditioning import Preconditioning
from .plans.schedule import NoiseSchedule
from .plans.schedule_config import ScheduleConfig as ScheduleConfig
from .plans.settings import Choices, Settings, settle
from .shape import MAX_CHANNELS, ImageSize, Shape

FORMAT = 1


@dataclass(frozen=True)
class SamplerDefaults:
    """The sampler settings of a request that names none."""

    sampler: str = "ddim"
    steps: int = 50
    spacing: str = "leading"
    eta: float = 0.0


@dataclass(frozen=True)
class ConditionConfig:
    """The image that a conditional network sees beside x_t, such as the small image that it enlarges.

    Attributes:
        size: height and width in pixels; it is enlarged to the size of x_t, see `model.condition`.
        max_augmentation: the largest standard deviation of the noise that conditions had in training, 0..1.
        augmentation: the standard deviation for a request that names none, at most `max_augmentation`.
    """

    size: int
    max_augmentation: float = 0.0
    augmentation: float = 0.0

    def __post_init__(self) -> None:
        if self.augmentation > self.max_augmentation:
            raise ValueError(f"augmentation must be at most max_augmentation, {self.max_augmentation:g}")


@dataclass(frozen=True)
class ModelConfig:
    """A model without its weights.

    Attributes:
        network: the network's own config; its type selects the network.
        image_size: side of the square images in pixels, or (height, width).
        channels: number of channels of an image, 1 to MAX_CHANNELS.
        schedule: the noise schedule of training.
        prediction: the quantity that the network predicts.
        preconditioning: how a network is called that was trained on noise levels and not on timesteps; None for others.
        variance: variance of ancestral sampling; a learned kind needs a network with outputs for it.
        clip: how the predicted x0 is clipped while sampling.
        classes: class names, None for an unconditional model.
        classifier: the noisy classifier that may guide sampling, if there is one.
        condition: the image that the network sees beside x_t; None for an unconditional network.
        defaults: sampler settings for requests that name none.
        plans: sampler settings by name, for requests that name them instead.
        training: how the model was trained; free JSON, for people.
    """

    network: AnyNetworkConfig
    image_size: ImageSize = 64
    channels: int = 3
    schedule: ScheduleConfig = ScheduleConfig()
    prediction: Prediction = "eps"
    preconditioning: Preconditioning | None = None
    variance: Variance = "fixed_small"
    clip: Clipping = Clipping()
    classes: tuple[str, ...] | None = None
    classifier: ClassifierConfig | None = None
    condition: ConditionConfig | None = None
    defaults: SamplerDefaults = SamplerDefaults()
    plans: Mapping[str, SamplerDefaults] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image."""
        return Shape.of(self.image_size, self.channels)

    @property
    def condition_shape(self) -> Shape | None:
        """(C, h, w) of the image that the network sees beside x_t; None for an unconditional network."""
        if self.condition is None:
            return None
        return Shape.of(self.condition.size, self.network.condition_channels)

    @property
    def told(self) -> tuple[str, ...]:
        """The names of the arguments that a call of the network has beside x_t and t, in their order."""
        labels = () if self.classes is None else ("labels",)
        return labels if self.condition is None else (*labels, "condition", "level")

    @property
    def num_labels(self) -> int:
        """Number of classes that a label may name: those of the network, or else those of the classifier."""
        if self.classes is not None:
            return len(self.classes)
        return 0 if self.classifier is None else self.classifier.num_classes

    def accepts(self, label: int | None, *, guidance_scale: float, classifier_scale: float) -> bool:
        """Returns whether the network, and the classifier if it guides, can be called with this class."""
        without_label = self.classes is None or self.network.null_class
        if label is None:
            return without_label and not classifier_scale
        return label < self.num_labels and (without_label or guidance_scale == 1.0)

    def settings(self, plan: str | None = None) -> Settings:
        """Returns the settings of a run for which a request chooses nothing, or nothing but one of the plans.

        Raises:
            PlanError: if there is no such plan.
        """
        if plan is not None and plan not in self.plans:
            known = f"must be one of {', '.join(self.plans)}" if self.plans else "must be omitted: this model has none"
            raise PlanError(known, "plan")
        own = self.defaults if plan is None else self.plans[plan]
        return Settings(own.sampler, own.steps, own.spacing, own.eta, variance=self.variance, clip=self.clip.mode)

    def settle(self, *, plan: str | None = None, start: int | None = None, **choices: Unpack[Choices]) -> Settings:
        """Completes the chosen settings of a run; see `plans.settings.settle`.

        Args:
            plan: the name of the plan that completes them; None for the defaults.
            start: the timestep where the run begins; None is T-1.
            choices: the settings that a request chooses.

        Raises:
            PlanError: if the choices contradict each other or the model.
        """
        timesteps = self.schedule.num_train_timesteps if start is None else start + 1
        return settle(choices, self.settings(plan), timesteps=timesteps)

    def plan(
        self,
        schedule: NoiseSchedule,
        *,
        start: int | None = None,
        classifier_scale: float = 0.0,
        **choices: Unpack[Choices],
    ) -> Plan:
        """Makes the plan of one sampling run of this model; see `make_plan`. `settle` completes the settings.

        Raises:
            PlanError: if the model has no such run.
        """
        if classifier_scale and self.classifier is None:
            raise PlanError("must be 0, because this model has no classifier", "classifier_scale")
        settings = self.settle(start=start, **choices)
        return make_plan(
            schedule,
            sampler=settings.sampler,
            steps=settings.steps,
            spacing=settings.spacing,
            eta=settings.eta,
            variance=settings.variance,
            prediction=self.prediction,
            clip=self.clip.with_mode(settings.clip),
            start=start,
            classifier_scale=classifier_scale,
        )


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """Returns the content of config.json, without the number of parameters."""
    kind = next(name for name, config_type in NETWORKS.items() if isinstance(config.network, config_type))
    content = dataclasses.asdict(config)
    return {"format": FORMAT, **content, "network": {"type": kind, **content["network"]}}


def config_from_json(content: Mapping[str, Any]) -> ModelConfig:
    """Reads the content of config.json; the reverse of `config_to_json`.

    Raises:
        CheckpointError: if the format is unknown, if a field is missing, unknown or impossible, or if a number is out
            of its bound; the message names the field.
    """
    if content.get("format") != FORMAT:
        raise CheckpointError(f"config.json has format {content.get('format')!r}; this version reads format {FORMAT}")
    check_config(content)
    try:
        fields = {name: value for name, value in content.items() if name not in ("format", "parameters")}
        for name in ("network", "schedule"):
            if name not in fields:
                raise ValueError(f"{name} is missing")
        network = dict(fields["network"])
        kind = network.pop("type", None)
        if kind not in NETWORKS:
            raise ValueError(f"network.type must be one of {', '.join(NETWORKS)}, got {kind!r}")
        fields["network"] = parse(NETWORKS[kind], network, "network.")
        for name, section in SECTIONS.items():
            if fields.get(name) is not None:
                fields[name] = parse(section, fields[name], f"{name}.")
        plans = fields.get("plans") or {}
        fields["plans"] = {name: parse(SamplerDefaults, plan, f"plans.{name}.") for name, plan in plans.items()}
        config = parse(ModelConfig, fields)
        _check(config)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise CheckpointError(f"config.json: {error}") from error
    return config


SECTIONS: dict[str, type[Any]] = {
    "schedule": ScheduleConfig,
    "clip": Clipping,
    "defaults": SamplerDefaults,
    "classifier": ClassifierConfig,
    "condition": ConditionConfig,
    "preconditioning": Preconditioning,
}


def _check(config: ModelConfig) -> None:
    if not 1 <= config.channels <= MAX_CHANNELS or config.network.in_channels != config.channels:
        raise ValueError(f"channels must be 1 to {MAX_CHANNELS} and equal the network's in_channels")
    with_variance = 2 * config.channels
    allowed = (with_variance,) if config.variance.startswith("learned") else (config.channels, with_variance)
    if config.network.out_channels not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ValueError(f"with variance {config.variance} the network needs out_channels {wanted}")
    multiple, shape = config.network.size_multiple, config.shape
    if any(side <= 0 or side % multiple for side in (shape.height, shape.width)):
        raise ValueError(f"image_size must be a multiple of {multiple}, in height and width")
    if config.network.num_classes != (None if config.classes is None else len(config.classes)):
        raise ValueError("classes and the network's num_classes disagree")
    _check_condition(config)
    _check_classifier(config)
    schedule = config.schedule.build()
    if config.preconditioning is not None:
        config.preconditioning.check(config.prediction, schedule)
    # A request without settings must have a plan; this also checks schedule, prediction and variance.
    config.plan(schedule, steps=config.defaults.steps)
    for name in config.plans:
        config.plan(schedule, **config.settle(plan=name).choices)


def _check_condition(config: ModelConfig) -> None:
    channels = config.network.condition_channels
    if (config.condition is not None) != bool(channels):
        raise ValueError("a network with condition_channels needs the table condition, and no other network has one")
    if config.condition is None:
        return
    if channels not in (1, 3):
        raise ValueError(f"condition_channels must be 1 or 3, got {channels}")
    if not config.shape.is_square or config.shape.planes > 1:
        raise ValueError("a network with a condition draws squares of 1 or 3 channels: change image_size or channels")
    if config.condition.size > config.shape.height:
        raise ValueError(f"condition.size must be at most image_size, {config.shape.height}")


def _check_classifier(config: ModelConfig) -> None:
    classifier = config.classifier
    if classifier is None:
        return
    if config.shape != Shape.of(classifier.image_size, classifier.in_channels):
        raise ValueError(
            "the classifier's in_channels and image_size must be the model's channels and image_size: "
            "make image_size the same, one number, and the channels too"
        )
    if config.classes is not None and classifier.num_classes != len(config.classes):
        raise ValueError("classes and the classifier's num_classes disagree")
