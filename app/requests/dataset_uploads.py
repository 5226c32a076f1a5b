"""Receiving a dataset: its files go to the disk as they come, and are checked in a thread once all are there."""

import re
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from difuso.jobs.params import MODEL_NAME
from difuso.jobs.trainings.archives import DatasetRefused, file_entries, zip_entries
from difuso.jobs.trainings.checking import MAX_TABLE, TABLES, Summary, make_dataset, thumbnails
from difuso.jobs.trainings.datasets import TABLE, Dataset, Datasets

from ..errors import BodyTooLarge, MalformedBody, NotMultipart, Overloaded, UploadRefused
from ..http.protocol import PATIENCE
from .uploads import MEDIA_TYPE, is_form

MAX_PARTS = 256  # pictures in one request; an archive may have more
MAX_LICENCE = 200  # characters
RECEIVE_SECONDS = 3600.0  # that a dataset may take to come
OF_AN_OWNER = 4  # times DIFUSO_MAX_DATASET that an owner may keep in all
MAX_WAITING = 8
PREFIX, LEFT_SECONDS = "difuso-dataset-", 86400.0  # of folders, and after which a process has died with its own


class _ToDisk(MultiPartParser):
    spool_max_size = 1 << 16  # bytes of a part in memory, before it goes to a file


@dataclass
class Received:
    """What was sent, in files of a folder that `close` removes."""

    folder: Path
    fields: dict[str, str] = field(default_factory=dict)
    images: list[tuple[str, Path]] = field(default_factory=list)
    table: tuple[str, bytes] | None = None

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class DatasetUploads:
    """Receives datasets of at most `max_bytes`, and checks one at a time; one object per process."""

    def __init__(self, max_bytes: int, ttl: int) -> None:
        self._max_bytes, self._ttl = max_bytes, ttl
        self._checkers = CapacityLimiter(1)
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):
                if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)

    async def receive(self, request: Request) -> Received:
        """Reads a form: the part `images`, once or many times, perhaps `table`, and the fields `name` and `licence`.

        Raises UploadRefused, or Overloaded if too many datasets wait to be checked. Close what it returns.
        """
        if not is_form(request):
            raise NotMultipart(f"Send pictures as parts of {MEDIA_TYPE.decode()}.")
        if int(request.headers.get("content-length", 0)) > self._max_bytes:
            raise BodyTooLarge
        if self._checkers.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("Too many datasets are being checked.", retry_after=30)
        if patience := request.scope.get("extensions", {}).get(PATIENCE):  # of our own server
            patience["ask"](RECEIVE_SECONDS)
        parser = _ToDisk(request.headers, self._counted(request), max_files=MAX_PARTS, max_fields=4)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            detail = f"Send at most {MAX_PARTS} pictures, or one archive." if "Too many" in error.message else None
            raise MalformedBody(detail) from error
        received = Received(Path(tempfile.mkdtemp(prefix=PREFIX)))
        try:
            for name, value in form.multi_items():
                await to_thread.run_sync(_take, received, name, value)
        except BaseException:
            received.close()
            raise
        finally:
            await form.close()
        return received

    async def _counted(self, request: Request) -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._max_bytes:
                raise BodyTooLarge
            yield chunk

    async def store(self, received: Received, owner: str | None, datasets: Datasets) -> Dataset:
        """Checks what was sent, and stores it; raises DatasetRefused."""
        return await to_thread.run_sync(self._store, received, owner, datasets, limiter=self._checkers)

    def _store(self, received: Received, owner: str | None, datasets: Datasets) -> Dataset:
        name, before = received.fields["name"], datasets.all(owner)
        if any(each.name == name for each in before):
            raise DatasetRefused("You have a dataset of this name: delete it first, or choose another", "name")
        out = received.folder / "clean.zip"
        summary = _checked(received, out)
        size, kept = out.stat().st_size, sum(each.bytes for each in before)
        if kept + size > OF_AN_OWNER * self._max_bytes:
            raise DatasetRefused(
                f"Your datasets would have {kept + size} bytes: delete one that is not needed any more"
            )
        now, table = time.time(), received.table
        dataset = Dataset(
            name=name,
            owner=owner,
            licence=received.fields.get("licence") or None,
            created_at=now,
            expires_at=now + self._ttl,
            bytes=size,
            table=TABLE + Path(table[0]).suffix.lower() if table else None,
            summary=summary,
        )
        datasets.add(dataset, out, thumbnails(out), table[1] if table else None)
        return dataset


def _checked(received: Received, out: Path) -> Summary:
    images = received.images
    if len(images) == 1 and images[0][0].lower().endswith(".zip"):
        return make_dataset(zip_entries(images[0][1]), received.table, out)
    return make_dataset(file_entries(images), received.table, out)


def _take(received: Received, name: str, value: UploadFile | str) -> None:
    """Takes one part of a form; raises UploadRefused."""
    if isinstance(value, str):
        if name not in ("name", "licence") or name in received.fields:
            raise UploadRefused("The part is unknown, or was sent before; send name and licence", part=name[:64])
        if name == "name" and not re.fullmatch(MODEL_NAME, value):
            raise UploadRefused("The name has at most 64 of a-z, 0-9, dots, dashes and underscores", part=name)
        received.fields[name] = value[:MAX_LICENCE]
    elif name == "images":
        path = received.folder / str(len(received.images))
        with path.open("wb") as file:
            shutil.copyfileobj(value.file, file, 1 << 20)
        received.images.append((value.filename or path.name, path))
    elif name == "table":
        if Path(value.filename or "").suffix.lower() not in TABLES:
            raise UploadRefused(f"The table is a file {' or '.join(TABLES)}", part=name)
        content = value.file.read(MAX_TABLE + 1)
        if len(content) > MAX_TABLE:
            raise UploadRefused(f"The table has more than {MAX_TABLE} bytes", part=name)
        received.table = (value.filename or "", content)
    else:
        raise UploadRefused("The part is unknown; send images, and perhaps table, name and licence", part=name[:64])
