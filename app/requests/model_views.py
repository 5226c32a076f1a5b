"""Models as the API shows them; an unknown value is absent."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.catalog import ModelInfo
from jobs.redis.reports import ModelReport
from jobs.values import Frozen
from model.folders.config import ModelConfig, SamplerDefaults

from .admission import refusal


class ConditionView(Frozen):
    """The image that a model draws from: its height and width in pixels, its channels, and the noise added to it."""

    size: int
    channels: int
    augmentation: float
    max_augmentation: float


class ModelView(Frozen):
    """A model: the facts of its checkpoint, and what the live workers report.

    `state` is `ready`, `refused` with a `reason`, or `unknown` while no worker has reported on it. `image_size` is the
    side of a square, or height and width. `condition` is absent if it draws from noise alone. `weaker` is there
    if a weaker network guides it.
    """

    name: str
    state: str
    reason: str | None = None
    rate: float | None = None
    workers: int = 0
    image_size: int | list[int] | None = None
    channels: int | None = None
    classes: tuple[str, ...] | None = None
    num_train_timesteps: int | None = None
    label_required: bool | None = None
    classifier_classes: int | None = None
    weaker: bool | None = None
    prediction: str | None = None
    variance: str | None = None
    clip: str | None = None
    defaults: SamplerDefaults | None = None
    plans: Mapping[str, SamplerDefaults] | None = None
    condition: ConditionView | None = None
    parameters: int | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, model: ModelInfo, reports: list[ModelReport]) -> ModelView:
        ready = [report for report in reports if report.ready]
        reason = refusal(reports)
        config = model.config
        size = config.shape.image_size
        return cls(
            name=model.name,
            image_size=size if isinstance(size, int) else [*size],
            channels=config.channels,
            classes=config.classes,
            num_train_timesteps=config.schedule.num_train_timesteps,
            label_required=model.label_required,
            classifier_classes=None if config.classifier is None else config.classifier.num_classes,
            weaker=config.weaker is not None or None,
            prediction=config.prediction,
            variance=config.variance,
            clip=config.clip.mode,
            defaults=config.defaults,
            plans=config.plans,
            condition=_condition(config),
            parameters=model.parameters,
            sha256=ready[0].sha256 if ready and model.sha256 is None else model.sha256,
            state="ready" if ready else "unknown" if reason is None else "refused",
            reason=reason,
            rate=sum(report.rate or 0.0 for report in ready) or None,
            workers=len(ready),
        )

    @classmethod
    def refused(cls, name: str, reason: str) -> ModelView:
        """Returns the view of a folder that is not a usable model."""
        return cls(name=name, state="refused", reason=reason)


class ModelList(Frozen):
    """All models; `default` is the model of a request without `model`."""

    default: str | None
    models: list[ModelView]


def _condition(config: ModelConfig) -> ConditionView | None:
    if config.condition is None:
        return None
    return ConditionView(**vars(config.condition), channels=config.network.condition_channels)
