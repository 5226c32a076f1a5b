"""Keeps a folder of this machine equal to the models of an address, for processes that see nothing but folders.

cache/files/<sha256>        a file of models, fetched once for all processes of this machine
cache/files/<sha256>.head   of weights: their head, and a hole for the tensors, which front ends do not read
cache/<address>/NAME        the model NAME of an address: links to these files; front ends have <address>-heads
cache/<address>/NAME.toml   the shares of its versions
"""

import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from threading import Event, Thread

from pydantic import ValidationError

from difuso.model.folders.files import MAX_FILE, file_sha256, model_of
from difuso.model.folders.new_folder import replacing

from .model_folders import FOLDER, model_folders
from .pushed_models import FILES, MANIFEST, MAX_MANIFEST, PushedFile, PushedModel
from .settings import SharedSettings
from .store.blobs import Blobs
from .traffic import SHARES

log = logging.getLogger(__name__)

LOOK_SECONDS = 8.0  # between two looks
REST = 10  # the pause before a model that failed is tried again, in durations of the failed try
START_SECONDS = 20.0  # for which a start waits for an address, if models were fetched before
LEFT_SECONDS = 86400.0  # after which an address that nobody has looked at is given up


class Unusable(Exception):
    """What lies at the address is no model, or was damaged; the message says what to do."""


class Mirror:
    """Keeps `folder` equal to the models of an address; `trouble` says what the last look could not do, or is None.

    Each model is replaced at once, when all of its files are here and have the right SHA-256. What cannot be fetched
    leaves the model as it was. Several processes may share a cache.

    One thread calls it. Raises ImportError or ValueError if there is no file system for the address.
    """

    def __init__(self, settings: SharedSettings) -> None:
        assert settings.models_address is not None
        self._address, self._first = settings.models_address, settings.default_model
        self._whole, self._most, self._serves = settings.whole_models, settings.cache_size, settings.serves
        self._blobs = Blobs(self._address)
        self.folder = settings.models_dirs[0]
        self.trouble: str | None = None
        self._files = settings.cache_dir / FILES
        self._closed, self._ready = Event(), Event()
        self._marks: dict[str, str] = {}  # of the manifests of the models that are here
        self._shares: dict[str, str] = {}  # the marks of the files of shares that are here
        self._again_at: dict[str, tuple[str, float]] = {}  # of those that failed, with the marks of their manifests
        self._faults: dict[str, str] = {}  # that were said
        self._checked: set[Path] = set()  # files that this process has read

    def follow(self) -> None:
        """Looks again and again in a thread of its own, and returns when a start can go on.

        A front end waits for one look, but not long. What needs weights waits for a model, or until the address says
        that there is none.
        """
        Thread(target=self._follow, name="mirror", daemon=True).start()
        self._ready.wait(START_SECONDS if model_folders(self.folder) or not self._whole else None)

    def close(self) -> None:
        """Ends the thread, without waiting for a look."""
        self._closed.set()

    def look(self) -> None:
        """Fetches what has changed at the address, and removes what is gone from it."""
        faults: dict[str, str] = {}
        try:
            self._look(faults)
        except Exception as error:  # those of the file system, of whatever kind
            faults = {"": self._said(error)}
        for new in faults.items() - self._faults.items():
            log.warning("models of %s: %s", self._address, ": ".join(filter(None, new)))
        if self._faults and not faults:
            log.info("the models of %s are all here", self._address)
        self._faults = faults
        self.trouble = next(iter(faults.values()), None)

    def _follow(self) -> None:
        while not self._closed.is_set():
            self.look()
            if not self._whole or not self.trouble or model_folders(self.folder):
                self._ready.set()
            self._closed.wait(LOOK_SECONDS)

    def _look(self, faults: dict[str, str]) -> None:
        self._files.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        os.utime(self.folder)
        found = self._blobs.marks(self._blobs.root)
        named = {name.removesuffix(MANIFEST): mark for name, mark in found.items() if mark and name.endswith(MANIFEST)}
        pushed = {name: mark for name, mark in named.items() if FOLDER.fullmatch(name)}
        wanted = [name for name in pushed if self._serves(model_of(name))]  # other processes may want the others
        for name in sorted(wanted, key=lambda name: (model_of(name) != self._first, name)):
            started, (failed, again_at) = time.monotonic(), self._again_at.get(name, ("", 0.0))
            if failed == pushed[name] and started < again_at:
                faults[name] = self._faults.get(name, "")
                continue
            try:
                self._bring(name, pushed[name])
            except Exception as error:  # a fault of one model must not stop the others
                now = time.monotonic()
                self._again_at[name] = pushed[name], now + REST * (now - started)
                faults[name] = self._said(error)
            if self._whole and self._marks:
                self._ready.set()
        for name in (name for name, mark in found.items() if mark is None and name != FILES and name not in pushed):
            faults[name] = f"it has no manifest: put it there with `difuso push FOLDER {self._address}`"
        for path in self.folder.iterdir():
            if FOLDER.fullmatch(path.name) and path.name not in pushed:
                self._marks.pop(path.name, None)
                shutil.rmtree(path, ignore_errors=True)
        shares = {name: mark for name, mark in found.items() if mark and name.endswith(SHARES)}
        self._bring_shares({name: shares[name] for name in shares if FOLDER.fullmatch(name.removesuffix(SHARES))})

    def _bring_shares(self, there: dict[str, str]) -> None:
        """Makes the files of shares what they are at the address, where they have these marks."""
        for name, _ in there.items() - self._shares.items():
            data = self._blobs.read(self._blobs.root / name, MAX_FILE)
            Blobs(str(self.folder)).write(PurePosixPath(self.folder.absolute() / name), data)
        for path in self.folder.glob(f"*{SHARES}"):
            if path.is_file() and path.name not in there:
                path.unlink(missing_ok=True)
        self._shares = there

    def _said(self, error: Exception) -> str:
        if isinstance(error, FileNotFoundError):
            return f"nothing lies there, or not all: `difuso push FOLDER {self._address}` puts a model there"
        return str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"

    def _bring(self, name: str, mark: str) -> None:
        """Makes the folder of a model what its manifest says."""
        if self._marks.get(name) == mark and (self.folder / name).is_dir():
            return
        data = self._blobs.read(self._blobs.root / f"{name}{MANIFEST}", MAX_MANIFEST)
        try:
            model = PushedModel.model_validate_json(data)
        except ValidationError as error:
            raise Unusable(f"{name}{MANIFEST} was not written by this `difuso push`, or by a newer one") from error
        files = {path: self._kept(file) for path, file in model.files.items()}
        self._make_room(model, {*files.values()})
        for path, file in model.files.items():
            self._fetch(file, files[path])
        self._install(name, data, files, model.pushed_at)
        self._marks[name] = mark
        log.info("model %s is here in version %s", name, model.version[:12])

    def _kept(self, file: PushedFile) -> Path:
        """Returns where a file is kept."""
        return self._files / (f"{file.sha256}.head" if self._head(file) else file.sha256)

    def _head(self, file: PushedFile) -> int | None:
        """Returns how many bytes of a file are fetched; None for all."""
        return None if self._whole else file.head

    def _fetch(self, file: PushedFile, kept: Path) -> None:
        """Fetches a file, unless it is here; raises Unusable if the address has other bytes."""
        if self._is_here(file, kept):
            return
        part = kept.with_name(f".{kept.name}")
        with part.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process of this machine may be fetching it
            if self._is_here(file, kept):
                part.unlink(missing_ok=True)
                return
            there = self._blobs.root / FILES / file.sha256
            try:
                if (head := self._head(file)) is None:
                    self._blobs.download(there, part)
                else:
                    part.write_bytes(self._blobs.read(there, head))
                if not self._is_right(file, part):
                    raise Unusable(f"{file.sha256} in {FILES}/ was damaged: push the model again")
            except Exception:
                os.truncate(part, 0)  # the disk may be full
                raise
            os.truncate(part, file.size)
            os.utime(part, (age := int(file.sha256[:7], 16), age))  # follows from the content, before any push
            part.chmod(0o644)
            os.fsync(lock.fileno())
            part.replace(kept)
            self._checked.add(kept)

    def _is_here(self, file: PushedFile, kept: Path) -> bool:
        """Returns whether a file is here; what an earlier process left is read before it counts."""
        if not kept.is_file() or kept.stat().st_size != file.size:
            return False
        if kept not in self._checked and self._is_right(file, kept):
            self._checked.add(kept)
        return kept in self._checked

    def _is_right(self, file: PushedFile, path: Path) -> bool:
        head = self._head(file)
        if head is None:
            return file_sha256(path) == file.sha256
        with path.open("rb") as opened:
            return hashlib.sha256(opened.read(head)).hexdigest() == file.head_sha256

    def _install(self, name: str, data: bytes, files: Mapping[str, Path], modified: float) -> None:
        """Replaces the folder of a model, unless another process has done so."""
        target, manifest = self.folder / name, f"pushed{MANIFEST}"
        with _locked(self.folder / ".lock"):
            with suppress(OSError):
                linked = all(os.path.samefile(target / path, kept) for path, kept in files.items())
                if linked and (target / manifest).read_bytes() == data:
                    return
            for left in self.folder.glob(".*-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            with replacing(target) as fresh:
                for path, kept in files.items():
                    (fresh / path).parent.mkdir(exist_ok=True)
                    os.link(kept, fresh / path)
                (fresh / manifest).write_bytes(data)
                for each in (fresh / manifest, *filter(Path.is_dir, fresh.iterdir())):
                    os.utime(each, (modified, modified))  # so the newest of NAME@TAG is the same everywhere

    def _make_room(self, model: PushedModel, wanted: set[Path]) -> None:
        """Deletes files for what is to come, those first that no model has had for longest."""
        for folder, facts in _facts(self._files.parent):
            if folder != self._files and facts.st_mtime < time.time() - LEFT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        coming = sum(self._head(each) or each.size for each in model.files.values() if not self._kept(each).exists())
        found = _facts(self._files)
        size = coming + sum(facts.st_blocks * 512 for _, facts in found)
        for path, facts in sorted(found, key=lambda each: each[1].st_ctime):  # when its last link came or went
            if size > self._most and facts.st_nlink == 1 and path.with_name(path.name.lstrip(".")) not in wanted:
                path.unlink(missing_ok=True)
                self._checked.discard(path)
                size -= facts.st_blocks * 512


def _facts(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Returns what lies in a folder, with its facts, but what another process removes meanwhile."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found.append((path, path.stat()))
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
