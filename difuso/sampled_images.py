"""Images to measure, drawn by the step engine: a server makes the same ones for the same request and seeds."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.contract import Job, new_job
from jobs.kinds.base import Prepared
from jobs.kinds.generate import Generation
from jobs.params import SamplingParams
from training.images import ImageArray
from worker.local import run_jobs
from worker.runner import Runner


class SampledImages:
    """The images of one model, sampler and number of steps; a `draw` function for `evaluation.image_sets.drawn`.

    The images are kept as PNGs named by seed, so that an interrupted command resumes and a later one reuses them.

    Args:
        runner: runner of the model.
        params: parameters of each image; image i has seed params.seed + i.
        labels: class indices; the image of seed s gets number s modulo their count. Empty: all get params.label.
        root: folder for all settings; these get a folder of their own, named after the weights and the parameters.

    Attributes:
        facts: the weights and parameters that all images share.
    """

    def __init__(self, runner: Runner, params: SamplingParams, root: Path, *, labels: Sequence[int] = ()) -> None:
        self._runner = runner
        self._labels = labels
        self._params = params.model_copy(update={"n": 1})
        checkpoint = runner.checkpoint
        way = params.model_dump(mode="json", exclude={"n", "seed", "label"}) | {"labels": list(labels) or params.label}
        self.facts = {"model": checkpoint.name, "sha256": checkpoint.sha256, **way}
        digest = hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest()
        name = f"{params.sampler}-{params.spacing.partition(':')[0]}-{params.steps}-{digest[:8]}"
        self._folder = root / f"{checkpoint.name}-{checkpoint.sha256[:8]}" / name
        self._clock = self._folder / "seconds.json"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "parameters.json").write_text(json.dumps(self.facts, indent=2) + "\n", encoding="utf-8")

    def __call__(self, first: int, count: int) -> ImageArray:
        """Images `first` to `first + count - 1`, uint8 of shape (count, H, W, 3)."""
        numbers = range(first, first + count)
        missing = [i for i in numbers if not self._path(i).exists()]
        for begin in range(0, len(missing), self._runner.slots):
            self._draw(missing[begin : begin + self._runner.slots])
        return np.stack([np.asarray(Image.open(self._path(i)).convert("RGB")) for i in numbers])

    def seconds_per_image(self) -> float | None:
        """Mean seconds to draw an image in full batches; None if no image was drawn."""
        spent = self._spent()
        return spent["seconds"] / spent["images"] if spent["images"] else None

    def _spent(self) -> dict[str, float]:
        if not self._clock.exists():
            return {"images": 0, "seconds": 0.0}
        spent: dict[str, float] = json.loads(self._clock.read_text(encoding="utf-8"))
        return spent

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._params.seed + index}.png"

    def _draw(self, numbers: Sequence[int]) -> None:
        jobs = [(self._job(i), ()) for i in numbers]
        begin = time.perf_counter()
        made = run_jobs(self._runner, jobs)
        seconds = time.perf_counter() - begin
        for i, (png,) in zip(numbers, made, strict=True):
            unfinished = self._path(i).with_suffix(".tmp")
            unfinished.write_bytes(png)
            unfinished.replace(self._path(i))
        # A batch that is not full takes as long as a full one: it would make each of its images look slow.
        spent = self._spent()
        if len(numbers) == self._runner.slots or not spent["images"]:
            total = {"images": spent["images"] + len(numbers), "seconds": spent["seconds"] + seconds}
            self._clock.write_text(json.dumps(total) + "\n", encoding="utf-8")

    def _job(self, index: int) -> Job:
        seed = self._params.seed + index
        label = self._labels[seed % len(self._labels)] if self._labels else self._params.label
        params = self._params.model_copy(update={"seed": seed, "label": label})
        return new_job(self._runner.checkpoint.name, Prepared(params, Generation()))
