"""The datasets of a store: pictures that a key sent, private to its owner, until they are deleted or too old.

datasets/<owner>/<name>/pictures.zip       the usable pictures
datasets/<owner>/<name>/table.csv, .jsonl  their values, if some were sent
datasets/<owner>/<name>/thumbnails.png     some of them
datasets/<owner>/<name>/dataset.json       the commit point: without it there is no dataset
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from ..errors import JobsError, StoreUnavailable
from ..store.blobs import Blobs
from ..values import Reported
from .checking import Summary

NOBODY = "_"  # stands for the owner on a server without keys; no owner has this name
PICTURES, TABLE, SHEET, RECORD = "pictures.zip", "table", "thumbnails.png", "dataset.json"
INCOMPLETE_SECONDS = 3600.0  # after which nobody still writes the files of a dataset


class DatasetNotFound(JobsError):
    """There is no dataset of this name: it never existed, was deleted, or its time is over."""


class Dataset(Reported):
    """A dataset: what it holds, whose it is, and until when it is kept; times are in seconds since the epoch."""

    name: str
    owner: str | None = None
    licence: str | None = None
    created_at: float
    expires_at: float
    bytes: int
    table: str | None = None  # the name of its file
    summary: Summary


class Datasets:
    """Reads and writes datasets below the URL of the store. Its methods block, and raise StoreUnavailable."""

    def __init__(self, url: str) -> None:
        self._blobs = Blobs(url)
        self._root = self._blobs.root / "datasets"

    def add(self, dataset: Dataset, pictures: Path, sheet: bytes, table: bytes | None) -> None:
        """Stores a dataset, of which there is none with this name yet."""
        folder = self._folder(dataset.owner, dataset.name)
        with store_errors():
            self._blobs.upload(folder / PICTURES, pictures)
            self._blobs.write(folder / SHEET, sheet)
            if table is not None and dataset.table is not None:
                self._blobs.write(folder / dataset.table, table)
            self._blobs.write(folder / RECORD, dataset.model_dump_json().encode())

    def get(self, owner: str | None, name: str) -> Dataset:
        """Returns a dataset of an owner; raises DatasetNotFound."""
        found = self._read(self._folder(owner, name) / RECORD)
        if found is None or found.expires_at < time.time():
            raise DatasetNotFound
        return found

    def all(self, owner: str | None = None, *, of_all: bool = False) -> list[Dataset]:
        """Returns the datasets of an owner, or of all, the newest first."""
        top = self._root if of_all else self._root / (owner or NOBODY)
        with store_errors():
            paths = [path for path in self._blobs.find(top) if path.name == RECORD]
        found = [dataset for path in paths if (dataset := self._read(path)) and dataset.expires_at >= time.time()]
        return sorted(found, key=lambda each: -each.created_at)

    def sheet(self, dataset: Dataset) -> bytes:
        with store_errors():
            return self._blobs.read(self._folder(dataset.owner, dataset.name) / SHEET)

    def fetch(self, owner: str | None, name: str, pictures: Path) -> Path | None:
        """Writes the archive of a dataset, old ones too, to a file, and its table beside it; returns where that is.

        Raises DatasetNotFound.
        """
        folder = self._folder(owner, name)
        found = self._read(folder / RECORD)
        if found is None:
            raise DatasetNotFound
        table = None if found.table is None else pictures.with_name(found.table)
        try:
            with store_errors():
                self._blobs.download(folder / PICTURES, pictures)
                if found.table is not None and table is not None:
                    self._blobs.download(folder / found.table, table)
        except FileNotFoundError as error:  # it was deleted meanwhile
            raise DatasetNotFound from error
        return table

    def delete(self, owner: str | None, name: str) -> None:
        """Deletes a dataset with all its bytes; raises DatasetNotFound."""
        self.get(owner, name)
        self._delete(self._folder(owner, name))

    def sweep(self, in_use: Collection[tuple[str | None, str]] = ()) -> None:
        """Deletes the datasets whose time is over, and what is left of those that were never complete.

        Those `in_use`, each an owner and a name, stay.
        """
        with store_errors():
            paths = self._blobs.find(self._root)
        used = {self._folder(*each) for each in in_use}
        for folder in {path.parent for path in paths} - used:
            found = self._read(folder / RECORD)
            with suppress(FileNotFoundError), store_errors():
                last = max(self._blobs.written_at(path) for path in paths if path.parent == folder)
                if found.expires_at < time.time() if found else last < time.time() - INCOMPLETE_SECONDS:
                    self._delete(folder)

    def _delete(self, folder: PurePosixPath) -> None:
        with store_errors():
            paths = sorted(self._blobs.find(folder), key=lambda path: path.name != RECORD)  # from here on it is gone
            for path in paths:
                with suppress(FileNotFoundError):
                    self._blobs.delete(path, top=self._root)

    def _read(self, path: PurePosixPath) -> Dataset | None:
        with suppress(FileNotFoundError, ValidationError):
            with store_errors():
                data = self._blobs.read(path)
            return Dataset.model_validate_json(data)
        return None

    def _folder(self, owner: str | None, name: str) -> PurePosixPath:
        return self._root / (owner or NOBODY) / name


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns the errors of a folder or a bucket inside the block into StoreUnavailable, but FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # those of the file system, or of a bucket's client
        raise StoreUnavailable from error
