"""Pictures that strangers send: the entries of a zip archive or single files, read in bounded memory.

What an archive declares is checked before anything is unpacked, and no entry is ever written under its own name.
"""

import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from difuso.archive_names import composed, name_of

from ..errors import JobsError

MAX_FILES = 20_000
MAX_DIRECTORY = 1 << 23  # bytes of an archive's list of entries, which Python holds a hundred times as large
MAX_FILE = 1 << 26  # bytes of a picture
MAX_RATIO, FREE_BYTES = 20, 1 << 26  # an archive may unpack to so many times its bytes, and so many more
MAX_NAME = 240  # characters
HIDDEN = ("__MACOSX", "Thumbs.db", "desktop.ini")  # what systems add by themselves; and what begins with a dot

_END, _END_SIZE, _MAX_COMMENT = b"PK\5\6", 22, 65535
_LARGE, _LARGE_SIZE = b"PK\6\7", 20  # before the end of an archive of more than 4 GiB, or 65,535 entries
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\:]")


class DatasetRefused(JobsError):
    """What was sent makes no dataset; the message is for the sender, and `part` the name of the part at fault."""

    def __init__(self, detail: str, part: str = "images") -> None:
        super().__init__(detail)
        self.detail = detail
        self.part = part


class Entry(NamedTuple):
    """A file that was sent, or the `reason` why it is left out."""

    name: str  # with / between its folders
    read: Callable[[], bytes]
    reason: str | None = None


def zip_entries(path: Path) -> Iterator[Entry]:
    """Yields the files of an archive; raises DatasetRefused if it cannot be used as a whole."""
    _check_end(path)
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DatasetRefused("The archive is damaged: make it again") from error
    with archive:
        named = [(name_of(each), each) for each in archive.infolist() if not each.is_dir()]
        seen = [(name, info) for name, info in named if not _is_hidden(name)]
        _check_declared(path, [info for _, info in seen])
        for name, info in seen:
            yield Entry(name, partial(archive.read, info), reason_of_name(name) or _reason(info))


def file_entries(files: list[tuple[str, Path]]) -> Iterator[Entry]:
    """Yields single files by the names that they were sent with."""
    for name, path in [(composed(name), path) for name, path in files]:
        large = path.stat().st_size > MAX_FILE
        yield Entry(name, path.read_bytes, _TOO_LARGE if large else reason_of_name(name))


def reason_of_name(name: str) -> str | None:
    """Returns why a name may not be that of a file in a dataset; None if it may."""
    path = PurePosixPath(name)
    if not name or len(name) > MAX_NAME or not name.isprintable() or _CONTROL.search(name):
        return "its name is too long, or has characters that no file's should have"
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the archive"
    return None


_TOO_LARGE = f"it has more than {MAX_FILE >> 20} MiB"


def _check_end(path: Path) -> None:
    """Reads what an archive's end says of its entries, before Python reads all of them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_SIZE - _MAX_COMMENT - _LARGE_SIZE))
        tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_SIZE:
        raise DatasetRefused("This is no zip archive, or its end is missing: make it again, and send all of it")
    if tail[max(0, end - _LARGE_SIZE) : end].startswith(_LARGE):
        raise DatasetRefused(f"The archive is too large: at most {MAX_FILES} files and 4 GiB, without ZIP64")
    count, directory = int.from_bytes(tail[end + 10 : end + 12], "little"), tail[end + 12 : end + 16]
    if count > MAX_FILES or int.from_bytes(directory, "little") > MAX_DIRECTORY:
        raise DatasetRefused(f"The archive has {count} entries: {MAX_FILES} is the most; send fewer pictures")


def _check_declared(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_FILES:
        raise DatasetRefused(f"The archive has {len(infos)} entries: {MAX_FILES} is the most; send fewer pictures")
    size, unpacked = path.stat().st_size, sum(each.file_size for each in infos)
    if unpacked > MAX_RATIO * size + FREE_BYTES:  # Python unpacks no more than is declared
        raise DatasetRefused(f"The archive of {size} bytes would unpack to {unpacked}: no pictures are packed so small")


def _reason(info: zipfile.ZipInfo) -> str | None:
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):  # the mode of a file, where a Unix packed it
        return "it is a link, or another thing that is no file"
    if info.flag_bits & 1:
        return "it is encrypted"
    return _TOO_LARGE if info.file_size > MAX_FILE else None


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in HIDDEN or parts[-1] in HIDDEN or (parts[-1].startswith(".") and parts[-1] != "..")
