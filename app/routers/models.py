"""/models: the models and their states."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from difuso.jobs.catalog import Catalog
from difuso.jobs.redis.workers import ModelReport, WorkerReport, load_seconds, refusal, reports_on
from difuso.jobs.values import Frozen
from difuso.model.conditions import type_of
from difuso.model.folders.config import Precision, SamplerDefaults
from difuso.model.folders.labels import Labels
from difuso.model.folders.never import Never
from difuso.model.shape import Shown

from ..requests.deps import ProcessDep

router = APIRouter(tags=["models"])


class EnlargedView(Frozen):
    """The image that a model draws from: its height and width in pixels, its channels, and the noise added to it."""

    size: int
    channels: int
    augmentation: float
    max_augmentation: float


class ConditionView(Frozen):
    """A condition of a model, with its `type`; `null` says whether it may be left out.

    A `choice` has `values`, a `number` the ends `low` and `high` of its range and maybe a `unit`, and a `vector` a
    `size`. A `map` has the `values` whose indices its pixels are. An `image` has `channels`, and as `size` a side, or
    height and width. A `sequence` has `most` vectors, each of `width` numbers.
    """

    type: str
    null: bool
    values: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    size: int | tuple[int, int] | None = None
    channels: int | None = None
    width: int | None = None
    most: int | None = None


class VersionView(Frozen):
    """A version of a model: the number of live `workers` that hold it, and the `folder` here that does, or did last.

    `share` is the part of the requests without `version` that it gets, 0 to 1.
    """

    version: str
    workers: int
    folder: str | None = None
    share: float = 0.0


class ModelView(Frozen):
    """A model and what its live workers report; an unknown value is absent.

    `state` is `ready` if a worker has loaded it; `loading`, or `loadable` as soon as it has jobs, each with the
    `load_seconds` that this takes; `asleep` if its workers start when it has jobs, with the `load_seconds` of their
    last start; `refused` with a `reason`; or `unknown` until a worker has reported on it. With another state, `reason`
    says why the folder is refused. `instead_of` names what the model's defaults replace, and how they differ from it.
    `image_size` is a side, or height and width. `shown` are the channels in pictures. `condition` is the image that it
    draws from. `conditions` are all its conditions, its classes as `label`. In each entry of `never` the values of one
    condition were never seen with those of another. `labels` has for each language and condition the `name` and the
    `values` to show in place of the plain ones. `examples` is the number of those that fill in what is left out.
    `about` begins its card.
    """

    name: str
    state: str
    load_seconds: float | None = None
    reason: str | None = None
    rate: float | None = None
    workers: int = 0
    image_size: int | list[int] | None = None
    channels: int | None = None
    shown: Shown | None = None
    classes: tuple[str, ...] | None = None
    num_train_timesteps: int | None = None
    label_required: bool | None = None
    classifier_classes: int | None = None
    weaker: bool | None = None
    prediction: str | None = None
    variance: str | None = None
    clip: str | None = None
    defaults: SamplerDefaults | None = None
    instead_of: str | None = None
    plans: Mapping[str, SamplerDefaults] | None = None
    condition: EnlargedView | None = None
    conditions: Mapping[str, ConditionView] = {}
    never: Never | None = None
    labels: Labels | None = None
    examples: int | None = None
    parameters: int | None = None
    version: str | None = None
    about: str | None = None
    documents: tuple[str, ...] | None = None
    precision: Precision | None = None
    versions: tuple[VersionView, ...] | None = None

    @classmethod
    def of(
        cls, name: str, catalog: Catalog, workers: Sequence[WorkerReport], asleep: Mapping[str, float | None]
    ) -> Self:
        """Returns the view of a model in the current version of the catalog, even if its folder is refused now.

        `asleep` are the models whose workers sleep, with the seconds of their last start.
        """
        model = catalog.models[name]
        held = [report for report in reports_on(model.ref, workers) if report.held]
        ready = [report for report in held if report.ready]
        seconds = asleep.get(model.name, load_seconds(model.ref, workers))
        other = "asleep" if model.name in asleep else "unknown"
        reason = refusal(model.ref, workers)
        config = model.config
        size = config.shape.image_size
        enlarged = None
        if config.condition is not None and config.small_shape is not None:
            enlarged = EnlargedView(**vars(config.condition), channels=config.small_shape.channels)
        return cls(
            name=model.name,
            image_size=size if isinstance(size, int) else [*size],
            channels=config.channels,
            shown=config.shown,
            classes=config.classes,
            num_train_timesteps=config.schedule.num_train_timesteps,
            label_required=model.label_required,
            classifier_classes=None if config.classifier is None else config.classifier.num_classes,
            weaker=config.weaker is not None or None,
            prediction=config.prediction,
            variance=config.variance,
            clip=config.clip.mode,
            defaults=config.defaults,
            instead_of=config.instead_of,
            plans=config.plans,
            condition=enlarged,
            conditions={
                name: ConditionView(type=type_of(each), **vars(each)) for name, each in config.declared.items()
            },
            never=config.never or None,
            labels=model.labels or None,
            examples=len(next(iter(config.examples.values()), ())) or None,
            parameters=model.parameters,
            about=model.about,
            documents=model.documents or None,
            version=model.version,
            versions=_versions(name, catalog, workers),
            precision=ready[0].precision if ready else config.precision,
            state=_state(held) or (other if reason is None else "refused"),
            load_seconds=None if seconds is None else round(seconds, 1),
            reason=reason or catalog.refused.get(name),
            rate=sum(report.rate or 0.0 for report in ready) or None,
            workers=len(held),
        )


def _state(held: Sequence[ModelReport]) -> str | None:
    """Returns how far a version is with the workers that hold it; None if there are none."""
    if any(each.ready for each in held):
        return "ready"
    return "loading" if any(each.loading for each in held) else "loadable" if held else None


def _versions(name: str, catalog: Catalog, workers: Sequence[WorkerReport]) -> tuple[VersionView, ...]:
    """Returns the versions of a model: those of the catalog in its order, then those that only workers have."""
    reports = [each for worker in workers for each in worker.models if each.name == name and each.held]
    held = Counter(each.version for each in reports if each.version is not None)
    folders, parts = {each.version: each.folder for each in catalog.versions[name]}, catalog.parts_of(name)
    return tuple(
        VersionView(version=each, workers=held[each], folder=folders.get(each), share=parts.get(each, 0.0))
        for each in dict.fromkeys([*folders, *held])
    )


class Schedule(Frozen):
    """The noise schedule of a model: `alphas_cumprod`, how much of the image is in x_t, at each timestep from 0 on."""

    alphas_cumprod: list[float]


class ModelList(Frozen):
    """All models; `default` is the model of a request without `model`."""

    default: str | None
    models: list[ModelView]


@router.get("/models", summary="List all models", response_model_exclude_none=True)
def list_models(process: ProcessDep) -> ModelList:
    """Includes models that cannot be used, with the reason."""
    catalog, workers = process.catalog, process.queue.workers()
    asleep = process.queue.asleep(workers)
    found = [ModelView.of(name, catalog, workers, asleep) for name in catalog.versions]
    others = catalog.refused.keys() - catalog.versions.keys()
    refused = [ModelView(name=name, state="refused", reason=catalog.refused[name]) for name in sorted(others)]
    return ModelList(default=catalog.default, models=found + refused)


@router.get("/models/{name}", summary="Get one model", response_model_exclude_none=True)
def get_model(name: str, process: ProcessDep) -> ModelView:
    catalog = process.catalog
    if name in catalog.versions:
        workers = process.queue.workers()
        return ModelView.of(name, catalog, workers, process.queue.asleep(workers))
    if name not in catalog.refused:
        raise HTTPException(404)
    return ModelView(name=name, state="refused", reason=catalog.refused[name])


@router.get("/models/{name}/schedule", summary="Get the noise schedule of a model")
def get_model_schedule(name: str, process: ProcessDep) -> Schedule:
    model = process.catalog.models.get(name)
    if model is None:
        raise HTTPException(404)
    return Schedule(alphas_cumprod=model.schedule.alphas_cumprod.tolist())
