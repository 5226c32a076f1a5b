"""The folder in which a trainer runs `difuso train`: what goes in, and what can be read of the run."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from difuso.jobs.trainings.records import Progress, Training
from difuso.jobs.trainings.states import SHEETS, Sheet

from ..supervisor.child_processes import DIFUSO

# As they are stored one after the other, the log may be newer than the state, but lacks none of its steps.
STATE_FILES = ("state.pt", "metrics.jsonl", "recipe.json", "recipe.toml")
WINDOW = 9  # lines of the log, whose mean is a smoothed loss
POINTS = 100
LOG_BYTES = 4000


class RunFolder:
    """The files of one training in a folder, which is new."""

    def __init__(self, path: Path, training: Training) -> None:
        self.path, self.run = path, path / "run"
        self.run.mkdir(parents=True)
        self.pictures = path / f"{training.name}.zip"
        self.model, self.log = self.run / "model", path / "train.log"
        self._training = training
        self._restored = 0  # when the state that was there first was written, in nanoseconds

    def command(self, table: Path | None, learning_rate: float | None) -> list[str]:
        """Returns the command, the same for every trainer: by its first line a recipe knows that it is its own."""
        training = self._training
        chosen = {"preset": training.preset, "minutes": training.minutes, "table": table and table.name}
        words = [word for name, value in chosen.items() if value is not None for word in (f"--{name}", str(value))]
        rate = () if learning_rate is None else (f"learning_rate={learning_rate}",)
        changes = [word for change in (*training.changes, *rate) for word in ("--set", change)]
        dry = ["--dry-run"] * training.dry_run
        return [*DIFUSO, "train", self.pictures.name, *words, "--out", self.run.name, *changes, *dry]

    def take_over(self) -> None:
        """Takes over the restored files of a run, whose recipe names the folder in which it was made."""
        self._restored = (self.run / "state.pt").stat().st_mtime_ns
        before = str(Path(self._recipe()["data"]["path"]).parent)
        for name in ("recipe.toml", "recipe.json"):
            file = self.run / name
            file.write_text(file.read_text(encoding="utf-8").replace(before, str(self.path)), encoding="utf-8")

    @property
    def learning_rate(self) -> float:
        return float(self._recipe()["learning_rate"])

    def recipe_text(self) -> str:
        with suppress(FileNotFoundError):
            return (self.run / "recipe.toml").read_text(encoding="utf-8")
        return ""

    def saved(self) -> tuple[int, int] | None:
        """Returns the step of the last save, and a number that changes with it; None if there was none here."""
        with suppress(OSError, ValueError, KeyError):  # while it is replaced
            config = json.loads((self.model / "config.json").read_text(encoding="utf-8"))
            if (mark := (self.run / "state.pt").stat().st_mtime_ns) != self._restored:  # which comes after the model
                return int(config["training"]["steps"]), mark
        return None

    def state_files(self) -> dict[str, Path]:
        return {name: self.run / name for name in STATE_FILES}

    def sheets(self) -> dict[Sheet, dict[int, Path]]:
        """Returns the pictures of each kind by their steps."""
        return {kind: {int(path.stem): path for path in (self.run / kind).glob("*.png")} for kind in SHEETS}

    def last_lines(self) -> str:
        """Returns the end of the log, without the names of folders."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LOG_BYTES))
            text = file.read().decode(errors="replace")
        return text.replace(f"{self.path}/", "")

    def progress(self, before: Progress) -> Progress:
        """Reads how far the run is; `before` is what was known of it."""
        recipe, entries = self._recipe(), self._entries()
        if not recipe or (before.step and not entries and self.saved() is None):  # nothing is told since it goes on
            return before
        steps, batch = int(recipe["max_steps"]), int(recipe["batch_size"])
        step = max(entries[-1]["step"] if entries else 0, (self.saved() or (0,))[0])
        losses, held_out = _points(entries, "loss"), _points(entries, "held_out/loss")
        speeds = [each["images_per_second"] for each in entries if each.get("images_per_second")][-WINDOW:]
        left = (steps - step) * batch
        return Progress(
            step=step,
            steps=steps,
            images=step * batch,
            loss=_mean([loss for _, loss in losses[-WINDOW:]]) if losses else None,
            losses=_thinned(losses),
            held_out=_thinned(held_out) or None,
            seconds_left=(round(left / max(speeds), 1), round(left / min(speeds), 1)) if speeds else None,
            sheets=before.sheets,
            nearest=before.nearest,
            copies=next((each["copies"] for each in reversed(entries) if "copies" in each), None),
            served=before.served,
        )

    def _recipe(self) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.run / "recipe.json").read_text(encoding="utf-8"))
            return found
        return {}

    def _entries(self) -> list[dict[str, Any]]:
        entries = []
        with suppress(FileNotFoundError, json.JSONDecodeError):  # a line that is being written
            for line in (self.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
                entries.append(json.loads(line))
        return entries


def _points(entries: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(int(each["step"]), float(each[key])) for each in entries if key in each]


def _mean(values: Sequence[float]) -> float:
    return float(f"{sum(values) / len(values):.4g}")


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Returns the means of so many neighbours that POINTS are left at most, each with the last of their steps."""
    size = max(1, math.ceil(len(points) / POINTS))
    parts = [points[first : first + size] for first in range(0, len(points), size)]
    return tuple((part[-1][0], _mean([loss for _, loss in part])) for part in parts)
