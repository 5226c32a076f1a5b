"""Recipes: everything that decides a training run, as one frozen value."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from difuso.model.conditions import MAX_EXAMPLES, Condition, Conditions, Image, plane_count, type_of
from difuso.model.folders.config import ConditionConfig, ModelConfig, PlanName, SamplerDefaults, ScheduleConfig
from difuso.model.folders.labels import Labels
from difuso.model.foreign.names import Own, is_foreign, module_of
from difuso.model.networks.configs import ClassifierConfig, network_to_json
from difuso.model.networks.network_config import NetworkConfig
from difuso.model.plans.plan import Prediction, Variance
from difuso.model.plans.settings import GUIDANCE, Scale
from difuso.model.shape import ImageSize, Shape, Shown

from .choices import LossName, SourceName, WeightingName
from .errors import RecipeError

Timesteps = Literal["uniform", "stratified", "logit_normal"] | Own
Optimizer = Literal["adamw", "muon"] | Own
Precision = Literal["float32", "bf16"]
Share = Annotated[float, Field(ge=0, lt=1)]

ENLARGED = "image"  # the condition that is the image that a network enlarges


@dataclass(frozen=True)
class Data:
    """The source of the training images."""

    source: SourceName = "faces"  # a key of `SOURCES`, or a function of another package, see `open_source`
    path: str = ""  # the folder, file, pattern of files, or name of the set
    split: str = "train"  # `train` or `test`, for sets that have both, and for sets of which images are reserved
    reserved: NonNegativeInt = 0  # the number of images that no run sees, see `image_files.of_split`
    count: int = 40_000  # the number of drawn images
    classes: tuple[str, ...] = ()  # the names of the classes, for sets that only number them
    # whether half of the images are mirrored; `dihedral` shows each in one of the eight symmetries of a square
    flip: bool | Literal["dihedral"] = False
    # a function of another package that changes an image each time that it is shown, see `training.data.augmentation`
    augment: Literal[""] | Own = ""
    # the folder, file or pattern with the files of each map and image among the recipe's `conditions`, by its name; an
    # image to enlarge, `image`, is without one the training image made smaller
    condition_paths: Mapping[str, str] = field(default_factory=dict)
    # the `.csv` or `.jsonl` file with the values of the other conditions, see `training.data.tables`; empty if the
    # source has them itself, or there are none
    table: str = ""
    bits: Literal[8, 16] = 8  # the bits of each pixel, 8, or 16 for images that are not RGB
    # of images that a teacher draws: its settings, and the share without class and conditions that may be left out
    settings: SamplerDefaults = field(default_factory=SamplerDefaults)
    free: Share = 0.0


@dataclass(frozen=True)
class Recipe:
    """One training run, of a network that makes images or of a noisy classifier that guides one."""

    name: str
    network: NetworkConfig | ClassifierConfig  # the network that is trained
    schedule: ScheduleConfig
    defaults: SamplerDefaults
    # other settings of the sampler by name, which requests of the model ask for as `plan`
    plans: Mapping[PlanName, SamplerDefaults] = field(default_factory=dict)
    data: Data = Data()
    init: str = ""  # the folder of a checkpoint to begin from, see `training.run.initial`
    condition: ConditionConfig | None = None  # the images that the network enlarges; None if it draws from noise
    conditions: Conditions = field(default_factory=dict)  # further conditions, by name, see `model.conditions`
    # the words for conditions and their values by language, which the model's folder holds beside its config
    labels: Labels = field(default_factory=dict)
    guides: str = ""  # the folder of the model that a classifier guides, and becomes a part of
    # images that are not trained on, for a classifier's accuracy, or the loss of a network that draws from noise
    held_out: Data | None = None
    image_size: ImageSize = 64  # side of the square images in pixels, or (height, width)
    crop: int = 0  # the height and width of the random crops that the network is trained on; 0 for whole images
    channels: int = 3
    shown: Shown | None = None  # the channels that pictures show as red, green and blue, see `model.pictures`
    prediction: Prediction = "eps"  # what the network predicts: `eps`, `x0`, `v` or `flow`
    # of ancestral sampling; a learned one needs twice the `out_channels`, and the loss `hybrid` or `vlb`
    variance: Variance = "fixed_small"
    # `simple`, `hybrid` or `vlb`, see `training.objective.losses.Objective`; `distillation` of `init`'s checkpoint;
    # `regression` onto what a teacher draws; `cross_entropy` of a classifier; or a function of another package, see
    # `training.objective.objectives`
    loss: LossName = "simple"
    # the weighting of the simple loss, see `training.objective.weightings`; or a function of another package, see
    # `training.objective.losses`
    weighting: WeightingName = "uniform"
    gamma: float | None = None  # the parameter of the weighting; None is the published one
    # guidance_scale, guidance_low, guidance_high: of the teacher in a distillation; None is its own default
    guidance_scale: Scale | None = None
    guidance_low: float | None = None
    guidance_high: float | None = None
    # the steps of the teacher that the student learns to do in one, with DDIM; 1 is the prediction
    teacher_calls: PositiveInt = 1
    # their distribution, or a function of another package that draws them, see `training.objective.objectives`
    timesteps: Timesteps = "uniform"
    label_drop: Share = 0.0  # the share of images shown without their class, which guidance needs
    condition_drop: Share = 0.0  # the share without a condition that may be left out, each by a chance of its own
    drop_all: Share = 0.0  # the share without all that may be left out, class and conditions
    keep_all: Share = 0.0  # the share with all conditions (Huang et al. 2023, "Composer")
    # the number of images whose conditions the model carries, to fill in those that requests leave out
    examples: Annotated[int, Field(ge=0, le=MAX_EXAMPLES)] = 0
    batch_size: PositiveInt = 32  # the number of images in one optimiser step, over all processes and parts
    # the number of parts that each process cuts its share of a batch into, to need less memory
    accumulate: PositiveInt = 1
    # `adamw`; `muon` for the matrices of the network, with AdamW for all else; or a function of another package that
    # makes an optimiser, see `training.run.optimizers`
    optimizer: Optimizer = "adamw"
    max_steps: PositiveInt = 10_000  # the number of optimiser steps
    learning_rate: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 500  # the number of steps in which the learning rate rises from 0
    # the number of steps, at the end of `max_steps`, in which the learning rate falls to 0
    decay_steps: NonNegativeInt = 0
    clip_norm: NonNegativeFloat = 1.0  # the largest norm of the gradient; 0 turns clipping off
    ema_decay: Share = 0.9995  # the decay of the averaged weights that are served
    # the number format of the network's calls (autocast); `auto` is float32 or bf16, see `training.calls.format_of`
    precision: Precision | Literal["auto"] = "auto"
    compile: bool = False  # whether to use torch.compile, which needs a C++ compiler and a minute before the first step
    seed: NonNegativeInt = 0
    # save_every, sheet_every, log_every: the number of steps between two saves, sheets and lines of the log
    save_every: PositiveInt = 500
    sheet_every: PositiveInt = 1000
    log_every: PositiveInt = 50
    # the number of steps between two measurements of the KID to the training images; 0 is never
    kid_every: NonNegativeInt = 0
    nearest: bool = False  # whether each sheet comes with the training images nearest to its samples

    @property
    def shape(self) -> Shape:
        """(C, H, W) of one image."""
        return Shape.of(self.image_size, self.channels)

    @property
    def shown_shape(self) -> Shape:
        """(C, H, W) of what the network sees in training: a whole image, or a crop."""
        return Shape.of(self.crop, self.channels) if self.crop else self.shape

    @property
    def num_classes(self) -> int | None:
        """The network's number of classes; None if it has no classes."""
        return self.network.num_classes

    @property
    def small_shape(self) -> Shape | None:
        """(C, h, w) of the image that the network enlarges; None for a network that draws from noise."""
        if self.condition is None or isinstance(self.network, ClassifierConfig):
            return None
        return Shape.of(self.condition.size, self.network.condition_channels - plane_count(self.conditions))

    @property
    def all_conditions(self) -> dict[str, Condition]:
        """The conditions of the network but its class, by name: `conditions`, and the image that it enlarges."""
        enlarged = self.small_shape
        return {
            **self.conditions,
            **({} if enlarged is None else {ENLARGED: Image(enlarged.channels, enlarged.image_size)}),
        }

    @property
    def seen(self) -> dict[str, Shape]:
        """The shape (C, h, w) of each image that the network sees with x_t, by its name; a map has one channel."""
        seen = {name: condition for name, condition in self.all_conditions.items() if condition.planes}
        of_maps = Shape(1, self.shape.height, self.shape.width)
        return {name: each.shape if isinstance(each, Image) else of_maps for name, each in seen.items()}

    @property
    def condition_drops(self) -> dict[str, float]:
        """The share of images without each condition, by its name, in alphabetical order."""
        return {name: self.condition_drop * condition.null for name, condition in sorted(self.conditions.items())}

    @property
    def trains_classifier(self) -> bool:
        """Whether the network is a noisy classifier."""
        return isinstance(self.network, ClassifierConfig)

    @property
    def own_code(self) -> list[str]:
        """The names of its classes and functions of other packages."""
        held_out, network = getattr(self.held_out, "source", None), getattr(self.network, "type", None)
        of_data = (self.data.source, self.data.augment, held_out)
        names = (network, *of_data, self.loss, self.weighting, self.timesteps, self.optimizer)
        return [name for name in names if is_foreign(name)]

    @property
    def own_modules(self) -> list[str]:
        """The modules of `own_code`, which may also be imported for a checkpoint to begin from."""
        return [module_of(name) for name in self.own_code]

    def check_continues(self, earlier: dict[str, Any]) -> None:
        """Raises RecipeError if one of `FIXED` differs from the recipe, as JSON, that began a folder's run."""
        mine = json.loads(json.dumps(self.as_json))
        for key in FIXED + (FIXED_OF_STUDENTS if self.loss in ("distillation", "regression") else ()):
            if earlier.get(key) != mine[key]:
                raise RecipeError(f"this folder holds a run with another {key}: give a new folder, or undo the change")

    def model_config(self, facts: dict[str, Any], classes: Sequence[str] | None = None) -> ModelConfig:
        """The config.json of this run's model; `facts` say how far it is. Numbers may stand in for class names."""
        if classes is None and self.num_classes is not None:
            classes = [str(label) for label in range(self.num_classes)]
        assert not isinstance(self.network, ClassifierConfig)
        return ModelConfig(
            network=self.network,
            image_size=self.image_size,
            channels=self.channels,
            shown=self.shown,
            schedule=self.schedule,
            prediction=self.prediction,
            variance=self.variance,
            classes=None if classes is None else tuple(classes),
            condition=self.condition,
            conditions=self.conditions,
            defaults=self.defaults,
            plans=self.plans,
            training={"recipe": self.record, **facts},
        )

    @property
    def as_json(self) -> dict[str, Any]:
        """The recipe with every default filled in, as a TOML file could hold it."""
        conditions = {name: {"type": type_of(each), **asdict(each)} for name, each in self.conditions.items()}
        return {**asdict(self), "network": network_to_json(self.network), "conditions": conditions}

    @property
    def record(self) -> dict[str, Any]:
        """The recipe as its model carries it, for others to read: of paths outside of the run only the last part.

        Labels are not in it, since other words would make another version of the model.
        """
        return _without_folders({key: value for key, value in self.as_json.items() if key != "labels"})


def _without_folders(value: Any) -> Any:
    """Returns a value of a recipe without the folders of paths to elsewhere, which exist on one machine only."""
    if isinstance(value, dict):
        return {key: _without_folders(each) for key, each in value.items()}
    elsewhere = isinstance(value, str) and (Path(value).is_absolute() or value.startswith(("~", "..")))
    return Path(value).name if elsewhere else value


# What a run cannot change on its way: its weights, its data or their order would no longer fit.
FIXED = (
    *("conditions", "network", "schedule", "data", "condition", "image_size", "crop", "channels", "prediction"),
    *("variance", "loss", "weighting", "gamma", "batch_size", "timesteps", "optimizer", "seed"),
)

# A student cannot change its teacher or its task either: its model would name the new one only.
FIXED_OF_STUDENTS = ("init", *GUIDANCE, "teacher_calls", "defaults")
