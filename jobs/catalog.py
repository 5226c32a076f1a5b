"""The models folder as a front end sees it: config files only, so that no torch is needed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .contract import SamplerName, SpacingName

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SamplerDefaults(_Lenient):
    """What a request gets that does not say otherwise."""

    sampler: SamplerName
    steps: int = Field(ge=1)
    spacing: SpacingName
    eta: float = Field(default=0.0, ge=0, le=1)


class _Schedule(_Lenient):
    num_train_timesteps: int = Field(ge=1)


class _Config(_Lenient):
    image_size: int = Field(ge=1)
    channels: int = Field(ge=1)
    schedule: _Schedule
    prediction: str
    variance: str
    classes: tuple[str, ...] | None = None
    defaults: SamplerDefaults
    parameters: int


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint's facts.

    Attributes:
        num_train_timesteps: T; steps may be 1..T.
        sha256: of the weights, as the folder's SHA256SUMS states it.
    """

    name: str
    image_size: int
    channels: int
    num_train_timesteps: int
    prediction: str
    variance: str
    classes: tuple[str, ...] | None
    defaults: SamplerDefaults
    parameters: int
    sha256: str


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
    """Reads NAME/config.json and NAME/SHA256SUMS of every folder; weights are checked by the workers."""
    models: dict[str, ModelInfo] = {}
    refused: dict[str, str] = {}
    for path in model_folders(folder):
        try:
            models[path.name] = _read(path)
        except FileNotFoundError as error:
            refused[path.name] = f"{Path(error.filename).name} is missing"
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            refused[path.name] = f"config.json: {where} is missing or wrong"
        except (OSError, ValueError):
            refused[path.name] = "config.json or SHA256SUMS cannot be read"
        except KeyError:
            refused[path.name] = "SHA256SUMS does not name model.safetensors"
    return Catalog(models, refused)


def model_folders(folder: Path) -> list[Path]:
    """The folders that may be models, by name; names are never joined to a path, only found in this list."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and MODEL_NAME.fullmatch(path.name))


def _read(path: Path) -> ModelInfo:
    content: Any = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = _Config.model_validate(content)
    lines = (path / "SHA256SUMS").read_text("utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    return ModelInfo(
        name=path.name,
        image_size=config.image_size,
        channels=config.channels,
        num_train_timesteps=config.schedule.num_train_timesteps,
        prediction=config.prediction,
        variance=config.variance,
        classes=config.classes,
        defaults=config.defaults,
        parameters=config.parameters,
        sha256=sums["model.safetensors"],
    )
