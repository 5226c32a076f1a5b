"""Keeps a folder of this machine equal to the models of an address, for processes that see nothing but folders.

cache/files/<sha256>             a file of models, fetched once for all processes of this machine
cache/files/<sha256>.<its>.head  of weights: their head, and a hole for the tensors, which front ends do not read
cache/<address>/NAME             the model NAME of an address: links to these files; front ends have <address>-heads
cache/<address>/NAME.toml        the shares of its versions
"""

import fcntl
import hashlib
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import IO

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
SILENT_SECONDS, SLOW = 30.0, 1e6  # an address that takes longer, and for a download by bytes per second, is a trouble

# Only what has such a name is deleted, because others may use the folder, as they do /var/cache.
FOLDERS, KEPT = re.compile(r"[0-9a-f]{16}(-heads)?|\.held_\w+"), re.compile(r"\.?[0-9a-f]{64}(\.[0-9a-f]{64}\.head)?")


class Unusable(Exception):
    """What lies at the address is no model, or was damaged; the message says what to do."""


class Mirror:
    """Keeps `folder` equal to the models of an address, or to those that a process `serves`.

    Each model is replaced at once, when all of its files are here and have the right SHA-256. What cannot be fetched
    leaves the model as it was. Several processes may share a cache. One thread calls it.

    Raises ImportError or ValueError if there is no file system for the address.
    """

    def __init__(self, settings: SharedSettings, serves: Callable[[str], bool] = lambda model: True) -> None:
        assert settings.models_address is not None
        self._address, self._first = settings.models_address, settings.default_model
        self._whole, self._most, self._serves = settings.whole_models, settings.cache_size, serves
        self._blobs = Blobs(self._address)
        self.folder = settings.models_dirs[0]
        self._trouble: str | None = None
        self._silent_at = math.inf  # when an address that is asked has been silent for too long
        self._files = settings.cache_dir / FILES
        self._closed, self._ready = Event(), Event()
        self._marks: dict[str, str] = {}  # of the manifests of the models, and of the shares, that are here
        self._again_at: dict[str, tuple[str, float, str]] = {}  # of what failed, with its mark and fault
        self._faults: dict[str, str] = {}  # that were said
        self._checked: set[Path] = set()  # files that this process has read

    @property
    def trouble(self) -> str | None:
        """What the last look could not do, or that this one hangs; None if all is well."""
        return self._trouble if time.monotonic() < self._silent_at else f"{self._address} does not answer"

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
        self._trouble = next(iter(faults.values()), None)

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
        with self._asking():
            found = self._blobs.marks(self._blobs.root)
        named = {name.removesuffix(MANIFEST): mark for name, mark in found.items() if mark and name.endswith(MANIFEST)}
        pushed = {name: mark for name, mark in named.items() if FOLDER.fullmatch(name)}
        wanted = [name for name in pushed if self._serves(model_of(name))]  # other processes may want the others
        for name in sorted(wanted, key=lambda name: (model_of(name) != self._first, name)):
            self._try(self._bring, name, pushed[name], faults)
            if self._whole and not self._marks.keys().isdisjoint(pushed):
                self._ready.set()
        for name in (name for name, mark in found.items() if mark is None and name != FILES and name not in pushed):
            faults[name] = f"it has no manifest: put it there with `difuso push FOLDER {self._address}`"
        shares = {name: mark for name, mark in found.items() if mark and name.endswith(SHARES)}
        for name in sorted(name for name in shares if FOLDER.fullmatch(name.removesuffix(SHARES))):
            self._try(self._bring_shares, name, shares[name], faults)
        for path in self.folder.iterdir():
            if path.suffix == SHARES and path.is_file() and path.name not in shares:
                path.unlink(missing_ok=True)
            elif FOLDER.fullmatch(path.name) and path.name not in pushed:
                shutil.rmtree(path, ignore_errors=True)

    def _try(self, bring: Callable[[str], None], name: str, mark: str, faults: dict[str, str]) -> None:
        """Brings what has this mark at the address, unless it failed a while ago; a fault stops no others."""
        if self._marks.get(name) == mark and (self.folder / name).exists():
            return
        started, (failed, again_at, said) = time.monotonic(), self._again_at.get(name, ("", 0.0, ""))
        if failed == mark and started < again_at:
            faults[name] = said
            return
        try:
            bring(name)
            self._marks[name] = mark
        except Exception as error:  # of whatever kind
            now, faults[name] = time.monotonic(), self._said(error)
            self._again_at[name] = mark, now + REST * (now - started), faults[name]

    def _bring_shares(self, name: str) -> None:
        """Makes a file of shares what it is at the address."""
        with self._asking():
            data = self._blobs.read(self._blobs.root / name, MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise Unusable(f"{name} must have at most {MAX_FILE} bytes")
        Blobs(str(self.folder)).write(PurePosixPath(self.folder.absolute() / name), data)

    @contextmanager
    def _asking(self, size: int = 0) -> Iterator[None]:
        """Has `trouble` say so if the address takes too long to answer within the block, by so many bytes."""
        self._silent_at = time.monotonic() + SILENT_SECONDS + size / SLOW
        try:
            yield
        finally:
            self._silent_at = math.inf

    def _said(self, error: Exception) -> str:
        if isinstance(error, FileNotFoundError):
            return f"nothing lies there, or not all: `difuso push FOLDER {self._address}` puts a model there"
        return str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {error}"

    def _bring(self, name: str) -> None:
        """Makes the folder of a model what its manifest says."""
        with self._asking():
            data = self._blobs.read(self._blobs.root / f"{name}{MANIFEST}", MAX_MANIFEST)
        try:
            model = PushedModel.model_validate_json(data)
        except ValidationError as error:
            raise Unusable(f"{name}{MANIFEST} was not written by this `difuso push`, or by a newer one") from error
        files = {self._kept(file): file for file in model.files.values()}
        self._make_room(files)
        with TemporaryDirectory(prefix=".held_", dir=self._files.parent) as held:  # links, so that nobody deletes them
            for kept, file in files.items():
                self._fetch(file, kept, Path(held, kept.name))
            links = {path: Path(held, self._kept(file).name) for path, file in model.files.items()}
            self._install(name, data, links, model.pushed_at)
        log.info("model %s is here in version %s", name, model.version[:12])

    def _kept(self, file: PushedFile) -> Path:
        """Returns where a file is kept."""
        return self._files / (f"{file.sha256}.{file.head_sha256}.head" if self._head(file) else file.sha256)

    def _head(self, file: PushedFile) -> int | None:
        """Returns how many bytes of a file are fetched; None for all."""
        return None if self._whole else file.head

    def _fetch(self, file: PushedFile, kept: Path, held: Path) -> None:
        """Links a file to `held`, and fetches it first unless it is here; Unusable if the address has other bytes."""
        if self._is_here(file, kept, held):
            return
        part = kept.with_name(f".{kept.name}")
        with _locked(part) as lock:  # another process of this machine may be fetching it
            if self._is_here(file, kept, held):
                part.unlink()
                return
            try:
                self._download(file, part)
            except Exception:
                os.truncate(part, 0)  # the disk may be full
                raise
            os.utime(part, (age := int(kept.name[:7], 16), age))  # follows from the content, before any push
            part.chmod(0o644)
            os.fsync(lock.fileno())
            os.link(part, held)
            part.replace(kept)
            self._checked.add(kept)

    def _download(self, file: PushedFile, part: Path) -> None:
        there, head = self._blobs.root / FILES / file.sha256, self._head(file)
        with self._asking(file.size if head is None else head):
            is_right = self._blobs.size(there) in (file.size, None)  # without a file what follows fails
            if is_right and head is None:
                self._blobs.download(there, part)
            elif is_right:
                part.write_bytes(self._blobs.read(there, head))
                os.truncate(part, file.size)
        if not is_right or not self._is_right(file, part):
            raise Unusable(f"{FILES}/{file.sha256} was damaged: delete it there, and push the model again")

    def _is_here(self, file: PushedFile, kept: Path, held: Path) -> bool:
        """Links a file to `held` if it is here; what an earlier process left is read before it counts."""
        with suppress(FileNotFoundError):
            os.link(kept, held)
            if held.stat().st_size == file.size and (kept in self._checked or self._is_right(file, held)):
                self._checked.add(kept)
                return True
            held.unlink()
        return False

    def _is_right(self, file: PushedFile, path: Path) -> bool:
        head = self._head(file)
        if head is None:
            return path.stat().st_size == file.size and file_sha256(path) == file.sha256
        with path.open("rb") as opened:
            return hashlib.sha256(opened.read(head)).hexdigest() == file.head_sha256

    def _install(self, name: str, data: bytes, files: Mapping[str, Path], modified: float) -> None:
        """Replaces the folder of a model, unless another process has done so."""
        target, manifest = self.folder / name, f".pushed{MANIFEST}"  # which no manifest may name
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

    def _make_room(self, coming: Mapping[Path, PushedFile]) -> None:
        """Deletes files for those that are to come, those first that no model has had for longest."""
        for folder, facts in _facts(self._files.parent, FOLDERS):
            if facts.st_mtime < time.time() - LEFT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        found = [*_facts(self._files, KEPT)]
        size = sum(self._head(file) or file.size for kept, file in coming.items() if not kept.exists())
        size += sum(facts.st_blocks * 512 for _, facts in found)
        for path, facts in sorted(found, key=lambda each: each[1].st_ctime):  # when its last link came or went
            if size > self._most and facts.st_nlink == 1 and path.with_name(path.name.lstrip(".")) not in coming:
                with suppress(OSError), _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):  # not what another fetches
                    path.unlink()
                    self._checked.discard(path)
                    size -= facts.st_blocks * 512


def _facts(folder: Path, names: re.Pattern[str]) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields what has such names in a folder, with its facts, but not what another process removes meanwhile."""
    for path in (each for each in folder.iterdir() if names.fullmatch(each.name)):
        with suppress(FileNotFoundError):
            yield path, path.stat()


def _locked(path: Path, how: int = fcntl.LOCK_EX) -> IO[bytes]:
    """Opens and locks a file, again if another process has deleted or renamed it before; to close it unlocks it."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("ab"))
        fcntl.flock(file, how)
        with suppress(FileNotFoundError):
            if os.path.samefile(file.fileno(), path):
                stack.pop_all()
                return file
    return _locked(path, how)
