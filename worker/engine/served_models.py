"""What a worker knows of the models in its folders: which are loaded, and which can be; what is wrong with others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from difuso.jobs.model_folders import Mark, newest_first
from difuso.model.folders.files import model_of

from ..stepping.batched_network import WarmUp
from ..stepping.runner import Runner


@dataclass(frozen=True)
class Refused:
    """Why a folder could not be loaded."""

    reason: str
    version: str | None  # of the model in it; None if that is unknown


@dataclass(frozen=True)
class Folder:
    """A folder that was loaded or refused, or that can be loaded when there are jobs."""

    mark: Mark  # of its files then
    ref: str | None = None  # of the version that it holds, or held before it was refused
    refused: Refused | None = None
    # when the same files are tried again, on the monotonic clock
    again_at: float = math.inf
    version: str | None = None  # that of `ref`
    bytes: int = 0  # that it takes at most when it is loaded, if that is bounded


@dataclass(frozen=True)
class Known:
    """What loading a version has shown: the bytes and the seconds that it took, and its warm-up."""

    bytes: int
    seconds: float
    warm_up: WarmUp


@dataclass(frozen=True)
class Models:
    """The models that a worker serves, in one or more versions each."""

    runners: Mapping[str, Runner] = field(default_factory=dict)  # the versions that are warm, by ref, the latest last
    folders: Mapping[str, Folder] = field(default_factory=dict)  # by name, also those that are gone
    seen: Mapping[str, Mark] = field(default_factory=dict)  # the marks of all folders at the last look, by name
    known: Mapping[str, Known] = field(default_factory=dict)  # the versions that were loaded once, by ref
    bound: float = math.inf  # the most bytes that are loaded at a time
    pinned: frozenset[str] = frozenset()  # the names of the models that are never unloaded, if there is a bound
    loading: str | None = None  # the ref of the version that is being loaded because of jobs

    @property
    def coming(self) -> set[str]:
        """The models of which a folder has been seen and is neither loaded nor refused yet."""
        return {model_of(folder) for folder in self.seen.keys() - self.folders.keys()}

    @property
    def refused(self) -> dict[str, Refused]:
        """The folders that could not be loaded, by name."""
        return {name: folder.refused for name, folder in self.folders.items() if folder.refused is not None}

    @property
    def loadable(self) -> dict[str, str]:
        """The folders, by ref, of the versions that are not loaded until they have jobs."""
        there = {name: folder for name, folder in self.folders.items() if name in self.seen and not folder.refused}
        return {each.ref: name for name, each in there.items() if each.ref and each.ref not in self.runners}

    def may_come(self, ref: str, together: Collection[str]) -> bool:
        """Whether a version, which is not loaded, may still be, `together` with all that a job needs."""
        return model_of(ref) in self.coming or (ref in self.loadable and self.fit(together))

    def newest(self, model: str) -> str | None:
        """Returns the ref of the newest version of a model; None if there is none."""
        refs = self._refs(model)
        return refs[0] if refs else None

    def version(self, ref: str | None) -> str | None:
        """Returns the whole version that a ref names; None if it is not here."""
        runner = self.runners.get(ref or "")
        folders = (each.version for each in self.folders.values() if ref is not None and each.ref == ref)
        return next(folders, None) if runner is None else runner.checkpoint.version

    @property
    def superseded(self) -> set[str]:
        """The refs of the versions that no folder holds any longer, which are served until their jobs are done."""
        models = {model_of(ref) for ref in self.runners}
        return self.runners.keys() - {ref for model in models for ref in self._refs(model)}

    @property
    def news(self) -> object:
        """What front ends hear of at once when it changes."""
        return self.runners, self.loadable, self.refused, self.loading

    def keeps(self, ref: str) -> bool:
        """Whether a version is never unloaded."""
        return model_of(ref) in self.pinned and ref not in self.superseded

    def bytes(self, ref: str) -> int:
        """Returns the bytes that a version takes when it is loaded, or at most takes if it never was."""
        at_most = max((each.bytes for each in self.folders.values() if each.ref == ref), default=0)
        return self.known[ref].bytes if ref in self.known else at_most

    @property
    def free(self) -> float:
        """The bytes that are left of the bound."""
        return self.bound - sum(runner.bytes for runner in self.runners.values())

    @property
    def room(self) -> float:
        """The bytes of the bound that are left beside the versions that stay."""
        stay = {each.ref for each in self.folders.values() if each.ref and self.keeps(each.ref)}
        return self.bound - sum(map(self.bytes, stay))

    def takes(self, ref: str) -> int:
        """Returns the bytes of `room` that a version takes when it is loaded."""
        return 0 if self.keeps(ref) else self.bytes(ref)

    def fit(self, refs: Collection[str]) -> bool:
        """Whether these versions can be loaded at the same time, beside those that stay."""
        return sum(map(self.takes, set(refs))) <= self.room

    def load_seconds(self, ref: str) -> float:
        """Returns the seconds that loading a version took, or may take, as others of their size did."""
        if ref in self.known:
            return self.known[ref].seconds
        loaded = sum(each.bytes for each in self.known.values())
        return self.bytes(ref) * sum(each.seconds for each in self.known.values()) / max(loaded, 1)

    def _refs(self, model: str) -> list[str]:
        """Returns the versions in the folders of a model that are there, or without any in those that were.

        The first is the newest.
        """
        named = {name: each for name, each in self.folders.items() if model_of(name) == model}
        held = [name for name, each in named.items() if each.ref in self.runners or (each.ref and not each.refused)]
        there = [name for name in held if name in self.seen] or [n for n in held if named[n].ref in self.runners]
        there.sort(key=lambda name: newest_first(name, named[name].mark))
        return [ref for name in there if (ref := named[name].ref)]
