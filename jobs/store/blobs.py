"""Files below a folder or a bucket prefix: each is there whole, or not at all.

Nothing here has a time limit: a disk or bucket may hang instead of failing. Errors are those of the file system.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
from fsspec.config import conf
from fsspec.implementations.local import LocalFileSystem

# By default botocore tries five times, each with a timeout of a minute, and s3fs repeats all of that.
S3_TIMEOUTS = {"connect_timeout": 3, "read_timeout": 10, "retries": {"max_attempts": 0}}
TRIES = 20  # to put a file into a folder that others remove while it is empty


class Blobs:
    """Reads and writes files below a path or an fsspec URL, its `root`; `is_local` says whether that is a folder.

    Paths are absolute.
    """

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {}
        if url.startswith("s3://"):  # the operator's configuration of fsspec takes precedence, key by key
            options["config_kwargs"] = deepcopy(S3_TIMEOUTS) | conf.get("s3", {}).get("config_kwargs", {})
        self._fs, root = fsspec.url_to_fs(url, **options)
        self.root = PurePosixPath(root)
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def read(self, path: PurePosixPath, most: int | None = None) -> bytes:
        """Returns the content of a file, or its first bytes, at `most` so many; FileNotFoundError if there is none."""
        if self.is_local:
            with Path(path).open("rb") as file:
                return file.read(-1 if most is None else most)
        data: bytes = self._fs.cat_file(str(path), start=None if most is None else 0, end=most)
        return data

    def write(self, path: PurePosixPath, data: bytes) -> None:
        """Writes a file, or replaces it."""
        if not self.is_local:
            self._fs.pipe_file(str(path), data)
            return
        with temporary_file(Path(path), data, top=Path(self.root)) as temporary:
            temporary.replace(path)

    def upload(self, path: PurePosixPath, file: Path) -> None:
        """Writes a file, or replaces it, by the content of a file of this machine, of any size."""
        if not self.is_local:
            self._fs.put_file(str(file), str(path))
            return
        with temporary_file(Path(path), file, top=Path(self.root)) as temporary:
            temporary.replace(path)

    def download(self, path: PurePosixPath, file: Path) -> None:
        """Writes the content of a file, of any size, to a file of this machine; FileNotFoundError if there is none."""
        self._fs.get_file(str(path), str(file))

    def create(self, files: Mapping[PurePosixPath, bytes]) -> set[PurePosixPath]:
        """Writes new files, which a disk synchronises together; returns those that did not exist."""
        if not self.is_local:
            return {path for path, data in files.items() if self._create_in_bucket(path, data)}
        with ExitStack() as stack:
            written = {
                path: stack.enter_context(temporary_file(Path(path), data, top=Path(self.root), sync=False))
                for path, data in files.items()
            }
            for temporary in written.values():
                _sync(temporary)
            return {path for path, temporary in written.items() if _link(temporary, path)}

    def _create_in_bucket(self, path: PurePosixPath, data: bytes) -> bool:
        try:
            self._fs.pipe_file(str(path), data, mode="create")  # in S3 a PUT with If-None-Match: *
        except Exception:
            # Servers refuse with different errors, and the reply to a successful PUT may be lost. So only the file
            # itself says whether it exists.
            with suppress(FileNotFoundError):
                self.read(path)
                return False
            raise
        return True

    def delete(self, path: PurePosixPath, *, top: PurePosixPath | None = None) -> None:
        """Deletes a file, and its folders that are empty then and lie below `top`; None leaves all folders."""
        self._fs.rm_file(str(path))
        if top is not None and self.is_local:
            _prune(Path(path).parent, Path(top))

    def prune(self, top: PurePosixPath, *, before: float) -> None:
        """Removes the folders below `top` that have been empty since `before`; a bucket has none."""
        if self.is_local:
            _prune_all(Path(top), before=before)

    def find(self, folder: PurePosixPath) -> list[PurePosixPath]:
        """Returns all files below a folder, in folders of it too; none if it does not exist."""
        self._fs.invalidate_cache()
        return [PurePosixPath(path) for path in self._fs.find(str(folder))]

    def marks(self, folder: PurePosixPath) -> dict[str, str | None]:
        """Returns what lies in a folder itself, by name: of a file a text that changes with it, of a folder None.

        Raises FileNotFoundError if nothing lies there.
        """
        self._fs.invalidate_cache()
        found = {PurePosixPath(each["name"]): each for each in self._fs.ls(str(folder), detail=True)}
        marks = {
            path.name: None if each["type"] == "directory" else repr(each)
            for path, each in found.items()
            if path != folder
        }
        if not marks:  # so a folder that is not mounted does not count as one whose files are gone
            raise FileNotFoundError(f"{folder} is empty")
        return marks

    def size(self, path: PurePosixPath) -> int | None:
        """Returns the bytes of a file; None if there is none."""
        size: int | None = None
        with suppress(FileNotFoundError):
            size = self._fs.size(str(path))
        return size

    def written_at(self, path: PurePosixPath) -> float:
        """Returns when a file was written, in seconds since the epoch, by the clock of the file system."""
        written: float = self._fs.modified(str(path)).timestamp()
        return written

    def space(self) -> tuple[int, int] | None:
        """Returns the free and the total bytes of the disk; None of a bucket."""
        if not self.is_local:
            return None
        root = Path(self.root)  # may not exist before the first write
        there = next(folder for folder in (root, *root.parents) if folder.exists())
        found = shutil.disk_usage(there)
        return found.free, found.total


@contextmanager
def temporary_file(path: Path, data: bytes | Path, *, top: Path, sync: bool = True) -> Iterator[Path]:
    """Yields a complete temporary file next to `path`; at the end deletes it, and empty folders below `top`.

    Its `data` are bytes, or the content of another file. Whoever does not let it `sync` them does so later.
    """
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with _opened(temporary) as file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            else:
                file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        _prune(path.parent, top)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _link(path: Path, name: PurePosixPath) -> bool:
    """Gives a file another name; returns False if that exists."""
    with suppress(FileExistsError):
        os.link(path, name)
        return True
    return False


def _opened(path: Path, tries: int = TRIES) -> BinaryIO:
    """Opens a new file, and makes its folders, again if another process removes them because they are still empty."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except (FileNotFoundError, FileExistsError):  # the second where a folder went while `mkdir` looked at it
        if tries == 1:
            raise
    return _opened(path, tries - 1)


def _prune_all(top: Path, *, before: float) -> None:
    """Removes the folders below `top` that are empty and have been so since `before`, in seconds since the epoch."""
    for name, folders, files in os.walk(top, topdown=False):
        with suppress(FileNotFoundError):  # several workers may sweep at once
            if not folders and not files and os.stat(name).st_mtime < before:
                _prune(Path(name), top)


def _prune(folder: Path, top: Path) -> None:
    """Removes folders that are empty, up to `top`."""
    while folder != top:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass  # on a full disk not all folders were made
        except OSError:
            return
        folder = folder.parent
