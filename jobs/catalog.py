"""The models folder as a front end sees it: config files only, so that no torch is needed."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.bounds import check_config
from model.errors import CheckpointError, ModelError, reason_of
from model.files import SUMS, read_json, read_sums

from . import diffusers
from .contract import MODEL_NAME, ClipName, SamplerName, SpacingName, VarianceName
from .levels import ScheduleFacts, noise_levels

log = logging.getLogger(__name__)

SHA256 = re.compile(r"[0-9a-f]{64}")


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SamplerDefaults(_Lenient):
    """What a request gets that does not say otherwise."""

    sampler: SamplerName
    steps: int = Field(ge=1)
    spacing: SpacingName
    eta: float = Field(default=0.0, ge=0, le=1)


class _Network(_Lenient):
    null_class: bool = True


class _Clip(_Lenient):
    mode: ClipName = "static"


class _Classifier(_Lenient):
    num_classes: int = Field(ge=1)


class _Config(_Lenient):
    network: _Network
    image_size: int = Field(ge=1)
    channels: int = Field(ge=1)
    schedule: ScheduleFacts
    prediction: str
    variance: VarianceName
    clip: _Clip = _Clip()
    classes: tuple[str, ...] | None = None
    classifier: _Classifier | None = None
    defaults: SamplerDefaults
    parameters: int


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint's facts.

    Attributes:
        schedule: its noise. Where it has zero_terminal_snr, nothing of an image is left at T-1, and runs begin there.
        clip: what happens to predicted pictures unless a request says otherwise.
        label_required: there are classes, but no picture without one.
        classifier_classes: of the classifier that may guide sampling; None if there is none.
        sha256: of the weights, as the folder's SHA256SUMS states it; None if it has none, then the workers know.
    """

    name: str
    image_size: int
    channels: int
    schedule: ScheduleFacts
    prediction: str
    variance: VarianceName
    classes: tuple[str, ...] | None
    defaults: SamplerDefaults
    parameters: int
    sha256: str | None
    clip: ClipName = "static"
    label_required: bool = False
    classifier_classes: int | None = None

    @property
    def num_train_timesteps(self) -> int:
        """T; steps may be 1..T."""
        return self.schedule.num_train_timesteps


@dataclass(frozen=True)
class Catalog:
    """The models folder: what can be asked for, and what cannot and why."""

    models: dict[str, ModelInfo]
    refused: dict[str, str]

    @property
    def default(self) -> str | None:
        """The model of a request that names none: the first by name."""
        return min(self.models, default=None)


def read_catalog(folder: Path) -> Catalog:
    """Reads the config files and SHA256SUMS of every folder; weights are checked by the workers."""
    models: dict[str, ModelInfo] = {}
    refused: dict[str, str] = {}
    for path in model_folders(folder):
        try:
            models[path.name] = _read(path)
        except Exception as error:  # whatever a folder holds, the others are served
            refused[path.name] = reason_of(error)
            if not isinstance(error, ModelError):
                log.exception("model %s cannot be read", path.name)
    return Catalog(models, refused)


def model_folders(folder: Path) -> list[Path]:
    """The folders that may be models, by name; names are never joined to a path, only found in this list."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and re.fullmatch(MODEL_NAME, path.name))


def _read(path: Path) -> ModelInfo:
    if diffusers.is_diffusers(path):
        content, weights = diffusers.read_config(path), diffusers.find(path, "unet", diffusers.WEIGHTS)
        sha256 = _digest(path, weights) if (path / SUMS).is_file() else None
    else:
        content = read_json(path, "config.json")
        sha256 = _digest(path, "model.safetensors")
    check_config(content)
    try:
        config = _Config.model_validate(content)
        noise_levels(config.schedule)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise CheckpointError(f"config.json: {where} is missing or wrong") from error
    except (ValueError, ArithmeticError) as error:
        raise CheckpointError("config.json: there is no such schedule") from error
    return ModelInfo(
        name=path.name,
        image_size=config.image_size,
        channels=config.channels,
        schedule=config.schedule,
        prediction=config.prediction,
        variance=config.variance,
        classes=config.classes,
        defaults=config.defaults,
        parameters=config.parameters,
        sha256=sha256,
        clip=config.clip.mode,
        label_required=config.classes is not None and not config.network.null_class,
        classifier_classes=None if config.classifier is None else config.classifier.num_classes,
    )


def _digest(path: Path, weights: str) -> str:
    sums = read_sums(path)
    if weights not in sums:
        raise CheckpointError(f"{SUMS} does not name {weights}")
    if not SHA256.fullmatch(sums[weights]):
        raise CheckpointError(f"{SUMS} holds no SHA-256 sum of {weights}")
    return sums[weights]
