"""What trainings keep in the store, so that any trainer goes on where another one was.

trainings/<id>/states/<fence>-<step>/…  the files of a state; the record of the training names the one that counts
trainings/<id>/sheets/00000120.png      samples after so many steps
trainings/<id>/nearest/00000120.png     the same, each with the picture nearest to it
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from ..store.blobs import Blobs
from .datasets import store_errors

Sheet = Literal["sheets", "nearest"]
SHEETS: tuple[Sheet, ...] = get_args(Sheet)


class TrainingFiles:
    """Reads and writes the files of trainings below the URL of the store; its methods raise StoreUnavailable."""

    def __init__(self, url: str) -> None:
        self._blobs = Blobs(url)
        self._root = self._blobs.root / "trainings"

    def save(self, training_id: str, state: str, files: Mapping[str, Path]) -> None:
        """Stores the files of a state, by their names."""
        with store_errors():
            for name, file in files.items():
                self._blobs.upload(self._states(training_id) / state / name, file)

    def restore(self, training_id: str, state: str, files: Mapping[str, Path]) -> None:
        """Writes the files of a state, by their names; raises FileNotFoundError unless all are there."""
        with store_errors():
            for name, file in files.items():
                self._blobs.download(self._states(training_id) / state / name, file)

    def keep(self, training_id: str, fence: int, *states: str) -> None:
        """Deletes all states but these, and but those of later fences, with which their names begin."""
        with store_errors():
            for path in self._blobs.find(self._states(training_id)):
                state = path.parent.name
                if state not in states and int(state.partition("-")[0]) <= fence:
                    self._delete(path)

    def add_sheet(self, training_id: str, kind: Sheet, step: int, file: Path) -> None:
        with store_errors():
            self._blobs.upload(self._sheet(training_id, kind, step), file)

    def sheet(self, training_id: str, kind: Sheet, step: int) -> bytes:
        """Returns a PNG; raises FileNotFoundError if there is none of this step."""
        with store_errors():
            return self._blobs.read(self._sheet(training_id, kind, step))

    def delete(self, training_id: str) -> None:
        """Deletes all files of a training."""
        with store_errors():
            for path in self._blobs.find(self._root / training_id):
                self._delete(path)

    def sweep(self, before: float, known: Callable[[], Collection[str]]) -> None:
        """Deletes the files of trainings that are not `known`, and of which nothing was written since `before`."""
        with store_errors():
            by_id: dict[str, list[PurePosixPath]] = {}
            for path in self._blobs.find(self._root):
                by_id.setdefault(path.relative_to(self._root).parts[0], []).append(path)
            for training_id in by_id.keys() - set(known()):  # asked last, so that none is new
                with suppress(FileNotFoundError):
                    if max(map(self._blobs.written_at, by_id[training_id])) < before:
                        self.delete(training_id)

    def _delete(self, path: PurePosixPath) -> None:
        with suppress(FileNotFoundError):
            self._blobs.delete(path, top=self._root)

    def _states(self, training_id: str) -> PurePosixPath:
        return self._root / training_id / "states"

    def _sheet(self, training_id: str, kind: Sheet, step: int) -> PurePosixPath:
        return self._root / training_id / kind / f"{step:08d}.png"
