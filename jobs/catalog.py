"""The models folder as a front end sees it, and its changes: configs and shapes, no weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from difuso.model.errors import ModelError, may_pass, reason_of
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.files import model_of, read_shapes, ref_of
from difuso.model.folders.labels import Labels
from difuso.model.formats.folders import read_config, read_version, weights_of
from difuso.model.plans.schedule import NoiseSchedule
from difuso.model.shape import Shape

from .errors import RequestRefused, VersionGone
from .model_folders import (
    FILES,
    Mark,
    find_document,
    first_sentence,
    labels_of,
    mark_of,
    model_folders,
    model_marks,
    newest_first,
    passed_over,
)
from .nearest import Probe, probes_of
from .traffic import SHARES, drawn_by, parts_of, read_shares

log = logging.getLogger(__name__)

REMEMBERED = 3  # earlier versions of a model that a front end remembers, as long as workers may hold them
LOOK_SECONDS = 5.0  # between two looks for changes


@dataclass(frozen=True)
class ModelInfo:
    """The facts of one version of a model."""

    name: str
    config: ModelConfig
    parameters: int  # the number of weights of its network
    version: str  # see `model.folders.files`
    path: Path = Path()  # its folder, when it was read
    trained_here: bool = False  # whether that is not in the first folder of models
    # the model that a request names to enlarge the images of this one; None if it names none
    upscaler: ModelInfo | None = None
    about: str | None = None  # the first sentence of its card; None without one
    labels: Labels = field(default_factory=dict)  # the words for its conditions in other languages
    documents: tuple[str, ...] = ()  # the names of the files that describe it, see `model_folders`

    @property
    def folder(self) -> str:
        """The name of its folder, which may be that of NAME@TAG."""
        return self.path.name

    @property
    def ref(self) -> str:
        """The short name of this version."""
        return ref_of(self.name, self.version)

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of all models that a job needs, its own first."""
        return (self.version,) if self.upscaler is None else (self.version, self.upscaler.version)

    @property
    def final_shape(self) -> Shape:
        """The shape of the images in an answer: those of the upscaler, if there is one."""
        return (self.upscaler or self).config.shape

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the network was trained on."""
        return self.config.schedule.build()

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        """The values by which a worker finds the conditions of a picture; none if the model has no examples."""
        return probes_of(self.config)

    @property
    def label_required(self) -> bool:
        """Whether the network makes images of its classes only, and none without a class."""
        return "label" in self.config.required


@dataclass(frozen=True)
class Catalog:
    """The models of a folder: the usable ones by name, and the reasons why the others are refused.

    The newest version of a model is that of the folder NAME. Then come those that this folder held before, and those of
    the folders NAME@TAG, of which the one that changed last comes first.
    """

    versions: dict[str, tuple[ModelInfo, ...]]  # of each usable model, the newest first
    refused: dict[str, str]  # by the name of the folder, or of a file of shares
    named: str | None = None  # the model of requests without `model`; None for the first by name
    may_improve: bool = False  # whether a folder could not be read whose same files may be read later
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of versions, by model; see `traffic`
    held: Collection[str] = frozenset()  # the refs that live workers hold; empty while nobody knows

    @cached_property
    def models(self) -> dict[str, ModelInfo]:
        """The current version of each model."""
        return {name: versions[0] for name, versions in self.versions.items()}

    def among(self, held: Collection[str]) -> Catalog:
        """Returns this catalog as the workers that hold these refs can draw it: newer versions than theirs come later.

        So a rollout refuses nobody. Versions of NAME@TAG stay behind those of NAME, whoever holds them.
        """
        return replace(self._by(lambda each: (each.folder != each.name, each.ref not in held)), held=held)

    def for_job(self, job_id: str) -> Catalog:
        """Returns this catalog as a new job draws with it: the versions come first whose shares its id falls into."""
        return self.with_first({drawn_by(job_id, name, self.parts_of(name)) for name in self.shares})

    def with_first(self, chosen: Collection[str]) -> Catalog:
        """Returns this catalog with the chosen versions before the others of their models."""
        return self._by(lambda each: each.version not in chosen) if chosen else self

    def _by(self, order: Callable[[ModelInfo], Any]) -> Catalog:
        return replace(self, versions={name: tuple(sorted(found, key=order)) for name, found in self.versions.items()})

    def parts_of(self, name: str) -> dict[str, float]:
        """Returns which part of a model's requests each version gets that name none, 0 to 1, the current one last."""
        found = self.versions[name]
        held = [each.version for each in found if each.ref in self.held] or [each.version for each in found]
        return parts_of(self.shares.get(name) or {found[0].version: 1.0}, found[0].version, held)

    @property
    def default(self) -> str | None:
        """The model of a request without `model`; None if there is no model that draws from noise alone."""
        drawing = self.names(enlarging=False)
        return self.named or min(drawing, key=lambda name: (self.models[name].trained_here, name), default=None)

    def names(self, *, enlarging: bool) -> list[str]:
        """Returns the names of the models that draw from an image, or of those that draw from noise alone."""
        return [name for name, model in self.models.items() if model.config.enlarges is enlarging]

    def choose(
        self, name: str | None, *, version: str | None = None, enlarging: bool = False, parameter: str = "model"
    ) -> ModelInfo:
        """Returns the model of a request; the default if the name is None.

        Args:
            version: the first digits of the version that the request asks for; None for the current one.
            enlarging: whether the request needs a model that draws from an image; the first by name is the default.
            parameter: the parameter that holds the name, for messages.

        Raises RequestRefused if there is no usable model of this name, or no model at all, or if it draws from an image
        and the request does not want that, or the reverse. Raises VersionGone if the version is not here.
        """
        chosen = name or (min(self.names(enlarging=True), default=None) if enlarging else self.default)
        if chosen is None:
            kind = "model that draws from an image" if enlarging else "usable model"
            raise RequestRefused(parameter, f"This server has no {kind}; see /models")
        model = self.find(chosen, parameter)
        if enlarging and not model.config.enlarges:
            usable = ", ".join(self.names(enlarging=True)) or "none on this server"
            raise RequestRefused(parameter, f"Input should be a model that draws from an image: {usable}")
        if not enlarging and model.config.enlarges:
            raise RequestRefused(parameter, "This model draws from an image: send one to /upscale, or name another")
        return model if version is None else self._at(model.name, version)

    def _at(self, name: str, version: str) -> ModelInfo:
        found = [each for each in self.versions[name] if each.version.startswith(version)]
        if not found:
            raise VersionGone(f"This server has no folder of version {version} of {name}; see GET /models/{name}")
        if len(found) > 1:
            raise RequestRefused("version", f"Input should have more digits: {len(found)} versions begin with these")
        return found[0]

    def find(self, name: str, parameter: str = "model") -> ModelInfo:
        """Returns the model of a name, whatever it draws from; raises RequestRefused if it cannot be used."""
        if name in self.refused and name not in self.versions:
            raise RequestRefused(parameter, f"This model cannot be used: {self.refused[name]}")
        if name not in self.models:
            raise RequestRefused(parameter, f"Input should be one of {', '.join(self.models)}")
        return self.models[name]


def read_catalog(*folders: Path, default: str | None = None, before: Catalog | None = None) -> Catalog:
    """Reads the config file, SHA256SUMS and shapes of every model in some folders; workers check the weights.

    Requests that name no model get one of the first. A folder keeps the entry that it had `before` while it cannot be
    read. A model keeps the versions that its folder had, as long as this is there: there may be workers that hold no
    other yet, and some may refuse the new one.
    """
    before = before or Catalog({}, {})
    refused, may_improve = passed_over(*folders), False
    found: dict[str, list[ModelInfo]] = {}
    paths = {path.name: path for path in model_folders(*folders)}
    marks = {name: mark_of(path) if name != model_of(name) else () for name, path in paths.items()}
    for name in sorted(paths, key=lambda name: newest_first(name, marks[name])):
        kept = next((each for each in before.versions.get(model_of(name), ()) if each.folder == name), None)
        try:
            model = replace(_read(paths[name]), trained_here=paths[name].parent != folders[0])
        except Exception as error:  # a fault of one folder must not stop the others
            passes, unforeseen = may_pass(error), not isinstance(error, ModelError | OSError)
            may_improve |= passes
            if unforeseen or (passes and kept):  # of which clients do not hear
                log.error("model %s cannot be read: %s", name, reason_of(error), exc_info=unforeseen)
            if not (passes and kept):
                refused[name] = reason_of(error)
                continue
            model = kept
        found.setdefault(model.name, []).append(model)
    there = sorted({*found, *(name for name in before.versions if name in refused)})
    versions = {name: _with_earlier(found.get(name, []), before.versions.get(name, ())) for name in there}
    shares: dict[str, dict[str, float]] = {}
    for name, each in versions.items():
        try:  # an earlier version of NAME has no share, or it would keep the requests of the new one
            shares[name] = read_shares(each[0].path.parent, name, [model.version for model in found.get(name, ())])
        except (ModelError, OSError) as error:
            refused[f"{name}{SHARES}"], may_improve = reason_of(error), may_improve or may_pass(error)
            log.warning("%s%s: %s", name, SHARES, reason_of(error))
    catalog = Catalog(versions, refused, default, may_improve, {name: each for name, each in shares.items() if each})
    if default is not None and default not in catalog.models:
        known = ", ".join(catalog.models) or "none"
        log.warning("requests that name no model are refused: %s is not among the models, %s", default, known)
    return catalog


def _with_earlier(found: Sequence[ModelInfo], before: Sequence[ModelInfo]) -> tuple[ModelInfo, ...]:
    """Returns the versions of a model, each once: that of NAME, earlier ones, those of NAME@TAG."""
    here = [each for each in found if each.folder == each.name]
    versions = {each.version for each in here}
    earlier = [each for each in before if each.folder == each.name and each.version not in versions][:REMEMBERED]
    unique: dict[str, ModelInfo] = {}
    for each in (*here, *earlier, *found):
        unique.setdefault(each.version, each)
    return tuple(unique.values())


def _read(path: Path) -> ModelInfo:
    config = read_config(path)
    parameters = sum(map(math.prod, read_shapes(path, weights_of(path)).values()))
    labels: Labels = {}
    try:
        labels = labels_of(path, config)
    except ValueError as error:  # words for people are no reason to refuse a model
        log.warning("model %s is shown without its labels: %s", path.name, error)
    return ModelInfo(
        model_of(path.name),
        config,
        parameters,
        version=read_version(path, config),
        path=path,
        about=first_sentence(path),
        labels=labels,
        documents=tuple(document for document in FILES if find_document(path, document)),
    )


class CatalogFollower:
    """Reads the `catalog` of folders again when one of them has changed, or while a model in it cannot be read."""

    def __init__(self, *folders: Path, default: str | None = None) -> None:
        self._folders, self._default = folders, default
        self._read_of = self._seen = self._marks()
        self._held: frozenset[str] = frozenset()
        self._lock = Lock()
        self._whole = self.catalog = read_catalog(*folders, default=default)

    def hear(self, held: frozenset[str]) -> bool:
        """Orders the versions of the catalog by the refs that live workers hold; returns whether these have changed."""
        with self._lock:
            if held == self._held:
                return False
            self._held, self.catalog = held, self._whole.among(held)
            return True

    def look(self) -> bool:
        """Reads the catalog again, and returns True, if the folder has changed or a model in it could not be read.

        It waits until the folder has not changed since the last look, so that a half-written folder is not read.
        """
        before, self._seen = self._seen, self._marks()
        if self._seen != before or (self._seen == self._read_of and not self._whole.may_improve):
            return False
        whole = read_catalog(*self._folders, default=self._default, before=self._whole)
        with self._lock:
            self._whole, self.catalog = whole, whole.among(self._held)
        self._read_of = self._seen
        return True

    def _marks(self) -> dict[str, Mark]:
        return model_marks(*self._folders) | dict.fromkeys(passed_over(*self._folders), ())
