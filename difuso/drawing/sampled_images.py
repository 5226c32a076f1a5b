"""Images to measure, drawn here or on a server, with the same result for the same parameters and seeds."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from difuso.jobs.params import SamplingParams
from difuso.jobs.per_image import label_in_turn, one_or_several
from difuso.model.conditions import Value
from difuso.training.data.images import ImageArray

from .drawing import DrawingModel
from .sampling import write_whole


class SampledImages:
    """The images of one model with some parameters; a `draw` function for an `evaluation.image_sets.ImageSet`.

    They are kept as PNGs named by seed, so that an interrupted command resumes and a later one reuses them.

    Args:
        model: the model and the place where it draws.
        params: parameters of each image, with one seed; image i has seed params.seed + i.
        root: folder for all settings; these get one of their own, named after the model's version and the parameters.
        labels: class indices; the image of seed s gets number s modulo their count. Empty: all get params.label.
        conditions: the values of the same conditions for each image. Empty: all get those of params.
    """

    def __init__(
        self,
        model: DrawingModel,
        params: SamplingParams,
        root: Path,
        *,
        labels: Sequence[int] = (),
        conditions: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        self._model = model
        self._labels = labels
        self._conditions = conditions
        self.params = params.model_copy(update={"n": 1})
        way = params.model_dump(mode="json", exclude={"n", "seed", "label"}) | {"labels": list(labels) or params.label}
        if conditions:
            way |= {"conditions": [dict(each) for each in conditions], "seed": params.seed}
        self.facts = {"model": model.name, "version": model.loaded.version, **way}
        digest = hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest()
        name = f"{params.sampler}-{params.spacing.partition(':')[0]}-{params.steps}-{digest[:8]}"
        precision = "" if model.loaded.precision == "float32" else f"-{model.loaded.precision}"
        self.folder = root / f"{model.name}-{model.loaded.version[:8]}{precision}" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "parameters.json", (json.dumps(self.facts, indent=2) + "\n").encode())

    def __call__(self, first: int, count: int) -> ImageArray:
        """Images `first` to `first + count - 1`, uint8 of shape (count, H, W, 3)."""
        numbers = range(first, first + count)
        self.make(numbers)
        return np.stack([np.asarray(Image.open(self._path(i)).convert("RGB")) for i in numbers])

    def all(self, count: int, report: Callable[[float], None]) -> ImageArray:
        """The first images, as above; `report` is called with the share of them that is drawn."""
        ahead = self._model.loaded.ahead
        for first in range(0, count, ahead):
            self.make(range(first, min(first + ahead, count)))
            report(min(first + ahead, count) / count)
        return self(0, count)

    def make(self, numbers: Iterable[int]) -> None:
        """Draws those of the images with these numbers that are missing."""
        missing = [i for i in numbers if not self._path(i).exists()]
        size = self._model.loaded.together
        batches = [missing[begin : begin + size] for begin in range(0, len(missing), size)]

        def keep(number: int, pngs: Sequence[bytes]) -> None:
            for i, png in zip(batches[number], pngs, strict=True):
                write_whole(self._path(i), png)

        self._model.draw(map(self._run, batches), keep)

    def _path(self, index: int) -> Path:
        return self.folder / f"{self.params.seed_of(index)}.png"

    def _run(self, batch: Sequence[int]) -> SamplingParams:
        seeds = [self.params.seed_of(i) for i in batch]
        label = label_in_turn(self._labels, seeds) if self._labels else self.params.label
        own: dict[str, Any] = {"n": len(batch), "seed": one_or_several(seeds), "label": label}
        if self._conditions:
            own["conditions"] = {name: tuple(self._conditions[i][name] for i in batch) for name in self._conditions[0]}
        return self.params.model_copy(update=own)
