"""The models folder as a front end sees it, and its changes: configs and shapes, no weights."""

from __future__ import annotations

import logging
import math
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from model.errors import CheckpointError, ModelError, may_pass, reason_of
from model.folders.config import ModelConfig
from model.folders.files import SUMS, WEIGHTS, is_file, read_shapes, read_sums
from model.formats.folders import holds_config, read_config, weights_of
from model.plans.schedule import NoiseSchedule
from model.shape import Shape

from .errors import RequestRefused
from .model_files import ModelFiles
from .params import MODEL_NAME

log = logging.getLogger(__name__)

NO_NAME = (
    "the name of a model has at most 64 characters: a-z, 0-9, dots, dashes and underscores, of which the first is a "
    "letter or digit; rename the folder"
)
SHA256 = re.compile(r"[0-9a-f]{64}")
LOOK_SECONDS = 5.0  # between two looks for changes

# The path, size and modification time (in nanoseconds) of each file of a model.
Mark = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class ModelInfo:
    """The facts of a checkpoint."""

    name: str
    config: ModelConfig
    parameters: int  # the number of weights of its network
    # the SHA-256 of the weights, from SHA256SUMS; None without that file, and then workers report it
    sha256: str | None
    # the conditional model that a request names to enlarge the images of this one; None if it names none
    upscaler: ModelInfo | None = None
    about: str | None = None  # the first sentence of its card; None without one
    documents: tuple[str, ...] = ()  # the names of the files that describe it, see `ModelFiles`

    @property
    def final_shape(self) -> Shape:
        """The shape of the images in an answer: those of the upscaler, if there is one."""
        return (self.upscaler or self).config.shape

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the network was trained on."""
        return self.config.schedule.build()

    @property
    def label_required(self) -> bool:
        """Whether the network makes images of its classes only, and none without a class."""
        return self.config.classes is not None and not self.config.network.null_class


@dataclass(frozen=True)
class Catalog:
    """The models of a folder: the usable ones by name, and the reasons why the others are refused."""

    models: dict[str, ModelInfo]
    refused: dict[str, str]
    named: str | None = None  # the model of requests without `model`; None for the first by name
    # the reasons why folders could not be read, by name, where the same files may be read later. Those that were read
    # before are still in `models`, the others in `refused`.
    passing: dict[str, str] = field(default_factory=dict)

    @property
    def default(self) -> str | None:
        """The model of a request without `model`; None if there is no model that draws from noise alone."""
        return self.named or min(self.names(conditional=False), default=None)

    def names(self, *, conditional: bool) -> list[str]:
        """Returns the names of the models that draw from an image, or of those that draw from noise alone."""
        return [name for name, model in self.models.items() if (model.config.condition is not None) is conditional]

    def choose(self, name: str | None, *, conditional: bool = False, parameter: str = "model") -> ModelInfo:
        """Returns the model of a request; the default if the name is None.

        Args:
            conditional: whether the request needs a model that draws from an image; the first by name is the default.
            parameter: the parameter that holds the name, for messages.

        Raises RequestRefused if there is no usable model of this name, or no model at all, or if it draws from an image
        and the request does not want that, or the reverse.
        """
        chosen = name or (min(self.names(conditional=True), default=None) if conditional else self.default)
        if chosen is None:
            kind = "model that draws from an image" if conditional else "usable model"
            raise RequestRefused(parameter, f"This server has no {kind}; see /models")
        model = self.find(chosen, parameter)
        if conditional and model.config.condition is None:
            usable = ", ".join(self.names(conditional=True)) or "none on this server"
            raise RequestRefused(parameter, f"Input should be a model that draws from an image: {usable}")
        if not conditional and model.config.condition is not None:
            raise RequestRefused(parameter, "This model draws from an image: send one to /upscale, or name another")
        return model

    def find(self, name: str, parameter: str = "model") -> ModelInfo:
        """Returns the model of a name, whatever it draws from; raises RequestRefused if it cannot be used."""
        if name in self.refused:
            raise RequestRefused(parameter, f"This model cannot be used: {self.refused[name]}")
        if name not in self.models:
            raise RequestRefused(parameter, f"Input should be one of {', '.join(self.models)}")
        return self.models[name]


def read_catalog(folder: Path, default: str | None = None, *, before: Catalog | None = None) -> Catalog:
    """Reads the config file, SHA256SUMS and shapes of every model in a folder; workers check the weights.

    A model keeps the entry that it had `before` while its folder cannot be read.
    """
    before = before or Catalog({}, {})
    catalog = Catalog({}, passed_over(folder), default)
    for path in model_folders(folder):
        try:
            catalog.models[path.name] = _read(path)
        except Exception as error:  # a fault of one folder must not stop the others
            _note(catalog, before, path.name, error)
    if default is not None and default not in catalog.models:
        known = ", ".join(catalog.models) or "none"
        log.warning("requests that name no model are refused: %s is not among the models, %s", default, known)
    return catalog


def _note(catalog: Catalog, before: Catalog, name: str, error: Exception) -> None:
    """Notes in a catalog that a folder could not be read. The log says once what clients are not told."""
    reason, kept = reason_of(error), None
    if may_pass(error):
        catalog.passing[name] = reason
        kept = before.models.get(name)
    if kept is None:
        catalog.refused[name] = reason
    else:
        catalog.models[name] = kept
    unforeseen = not isinstance(error, ModelError)
    if (unforeseen or kept is not None) and reason != before.passing.get(name):
        log.error("model %s cannot be read: %s", name, reason, exc_info=unforeseen)


def model_folders(folder: Path) -> list[Path]:
    """Returns the folders that may be models, sorted by name. A request's model is looked up here, never in a path."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and re.fullmatch(MODEL_NAME, path.name))


def passed_over(folder: Path) -> dict[str, str]:
    """Returns the folders that hold a config but cannot be models by their name, each with the reason."""
    if not folder.is_dir():
        return {}
    named = {path.name for path in model_folders(folder)}
    others = sorted(path for path in folder.iterdir() if path.name not in named and not path.name.startswith("."))
    return {path.name: NO_NAME for path in others if holds_config(path)}


def _read(path: Path) -> ModelInfo:
    config, weights = read_config(path), weights_of(path)
    parameters = sum(map(math.prod, read_shapes(path, weights).values()))
    summed = is_file(path / SUMS) or weights == WEIGHTS
    digest, files = _digest(path, weights) if summed else None, ModelFiles(path.parent, path.name)
    return ModelInfo(path.name, config, parameters, digest, about=files.about, documents=files.documents)


def _digest(path: Path, weights: str) -> str:
    sums = read_sums(path)
    if weights not in sums:
        raise CheckpointError(f"{SUMS} does not name {weights}")
    if not SHA256.fullmatch(sums[weights]):
        raise CheckpointError(f"{SUMS} holds an invalid SHA-256 of {weights}")
    return sums[weights]


def model_marks(folder: Path) -> dict[str, Mark]:
    """Returns the mark of each folder that may be a model, by name, without reading files."""
    return {path.name: _mark(path) for path in model_folders(folder)}


def _mark(folder: Path) -> Mark:
    found = []
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):  # no file of a model lies deeper
        with suppress(OSError):  # the file may have been replaced, or be a link to itself
            facts = path.stat()
            found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return tuple(found)


class CatalogFollower:
    """Reads the `catalog` of a folder again when the folder has changed, or while a model in it cannot be read."""

    def __init__(self, folder: Path, default: str | None = None) -> None:
        self._folder, self._default = folder, default
        self._read_of = self._seen = self._marks()
        self.catalog = read_catalog(folder, default)

    def look(self) -> bool:
        """Reads the catalog again, and returns True, if the folder has changed or a model in it could not be read.

        It waits until the folder has not changed since the last look, so that a half-written folder is not read.
        """
        before, self._seen = self._seen, self._marks()
        if self._seen != before or (self._seen == self._read_of and not self.catalog.passing):
            return False
        self.catalog = read_catalog(self._folder, self._default, before=self.catalog)
        self._read_of = self._seen
        return True

    def _marks(self) -> dict[str, Mark]:
        return model_marks(self._folder) | dict.fromkeys(passed_over(self._folder), ())
