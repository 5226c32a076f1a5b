"""What a checkpoint's config.json says: everything about a model that its weights do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

from .bounds import check_config
from .errors import CheckpointError, PlanError
from .networks.configs import NETWORKS, AnyNetworkConfig, ClassifierConfig
from .parsing import parse
from .plans.clipping import Clipping
from .plans.plan import Plan, Prediction, Variance, make_plan
from .plans.schedule import NoiseSchedule
from .plans.settings import Choices, Settings, settle

FORMAT = 1

SCHEDULES: dict[str, Callable[..., NoiseSchedule]] = {
    "linear": NoiseSchedule.linear,
    "scaled_linear": NoiseSchedule.scaled_linear,
    "cosine": NoiseSchedule.cosine,
}


@dataclass(frozen=True)
class ScheduleConfig:
    """A noise schedule by name.

    Attributes:
        beta_start, beta_end: of the linear kinds; cosine has none.
        zero_terminal_snr: see `NoiseSchedule.rescale_zero_terminal_snr`.
    """

    type: Literal["linear", "scaled_linear", "cosine"] = "linear"
    num_train_timesteps: int = 1000
    beta_start: float | None = None
    beta_end: float | None = None
    zero_terminal_snr: bool = False

    def build(self) -> NoiseSchedule:
        """Raises ValueError if the schedule has no such betas, or none of so many timesteps."""
        betas = {"beta_start": self.beta_start, "beta_end": self.beta_end}
        given = {name: beta for name, beta in betas.items() if beta is not None}
        if given and self.type == "cosine":
            raise ValueError(f"a cosine schedule has no {' and no '.join(given)}: leave it out")
        schedule = SCHEDULES[self.type](self.num_train_timesteps, **given)
        return schedule.rescale_zero_terminal_snr() if self.zero_terminal_snr else schedule


@dataclass(frozen=True)
class SamplerDefaults:
    """What a request gets that does not say otherwise."""

    sampler: str = "ddim"
    steps: int = 50
    spacing: str = "leading"
    eta: float = 0.0


@dataclass(frozen=True)
class ModelConfig:
    """A model without its weights.

    Attributes:
        network: the network's own config; its type names the network.
        image_size: height and width in pixels.
        channels: of the images, 1 or 3.
        schedule: the noise schedule it was trained with.
        prediction: what the network outputs.
        variance: of ancestral sampling; one of the learned kinds where the network has outputs for it.
        clip: what happens to the predicted x0 while sampling.
        classes: class names, None for an unconditional model.
        classifier: the noisy classifier that may guide sampling, if there is one.
        defaults: sampler settings for requests that name none.
        training: how it was made; free JSON, for people.
    """

    network: AnyNetworkConfig
    image_size: int = 64
    channels: int = 3
    schedule: ScheduleConfig = ScheduleConfig()
    prediction: Prediction = "eps"
    variance: Variance = "fixed_small"
    clip: Clipping = Clipping()
    classes: tuple[str, ...] | None = None
    classifier: ClassifierConfig | None = None
    defaults: SamplerDefaults = SamplerDefaults()
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (self.channels, self.image_size, self.image_size)

    @property
    def num_labels(self) -> int:
        """Classes that a label may name: the network's, or else the classifier's."""
        if self.classes is not None:
            return len(self.classes)
        return 0 if self.classifier is None else self.classifier.num_classes

    def accepts(self, label: int | None, *, guidance_scale: float, classifier_scale: float) -> bool:
        """Whether the network, and the classifier if it guides, can be asked about this class."""
        without_label = self.classes is None or self.network.null_class
        if label is None:
            return without_label and not classifier_scale
        return label < self.num_labels and (without_label or guidance_scale == 1.0)

    @property
    def settings(self) -> Settings:
        """What a run is like of which a request says nothing."""
        own = self.defaults
        return Settings(own.sampler, own.steps, own.spacing, own.eta, variance=self.variance, clip=self.clip.mode)

    def settle(self, *, start: int | None = None, **choices: Unpack[Choices]) -> Settings:
        """The settings of a run of which some are chosen; see `plans.settings.settle`.

        Args:
            start: the timestep where the run begins, if that is not T-1.

        Raises:
            PlanError: if the choices contradict each other or the model.
        """
        timesteps = self.schedule.num_train_timesteps if start is None else start + 1
        return settle(choices, self.settings, timesteps=timesteps)

    def plan(
        self,
        schedule: NoiseSchedule,
        *,
        start: int | None = None,
        classifier_scale: float = 0.0,
        **choices: Unpack[Choices],
    ) -> Plan:
        """The table of one sampling run of this model; see `make_plan`. What is not chosen is filled in (`settle`).

        Raises:
            PlanError: if the model has no such run.
        """
        if classifier_scale and self.classifier is None:
            raise PlanError("must be 0, since this model has no classifier", "classifier_scale")
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
    """The content of config.json, but for the facts that only the weights know."""
    kind = next(name for name, config_type in NETWORKS.items() if isinstance(config.network, config_type))
    content = dataclasses.asdict(config)
    return {"format": FORMAT, **content, "network": {"type": kind, **content["network"]}}


def config_from_json(content: Mapping[str, Any]) -> ModelConfig:
    """The reverse of `config_to_json`.

    Raises:
        CheckpointError: if the format is unknown or a field is missing, unknown or impossible, or holds a number that
            nothing should be built from; the message names it.
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
}


def _check(config: ModelConfig) -> None:
    if config.channels not in (1, 3) or config.network.in_channels != config.channels:
        raise ValueError("channels must be 1 or 3 and equal the network's in_channels")
    with_variance = 2 * config.channels
    allowed = (with_variance,) if config.variance.startswith("learned") else (config.channels, with_variance)
    if config.network.out_channels not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ValueError(f"with variance {config.variance} the network needs out_channels {wanted}")
    if config.image_size <= 0 or config.image_size % config.network.size_multiple:
        raise ValueError(f"image_size must be a multiple of {config.network.size_multiple}")
    if config.network.num_classes != (None if config.classes is None else len(config.classes)):
        raise ValueError("classes and the network's num_classes disagree")
    # A request that names nothing must have a plan; this also proves schedule, prediction and variance.
    config.plan(config.schedule.build(), steps=config.defaults.steps)
