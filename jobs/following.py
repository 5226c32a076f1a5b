"""Following the changes of a models folder."""

from contextlib import suppress
from pathlib import Path

from .catalog import model_folders, passed_over, read_catalog

LOOK_SECONDS = 5.0  # between two looks

# The path, size and modification time (in nanoseconds) of each file of a model.
Mark = tuple[tuple[str, int, int], ...]


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
    """Reads the catalog of a folder again when the folder has changed, or while a model in it cannot be read.

    Args:
        folder: the models folder.
        default: the model of requests without `model`; None for the first by name.

    Attributes:
        catalog: the last catalog that was read.
    """

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
