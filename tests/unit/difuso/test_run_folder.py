"""What a trainer reads of the run in its folder."""

from __future__ import annotations

import json
from pathlib import Path

from difuso.jobs.trainings.records import Progress, Training
from difuso.trainer.run_folder import RunFolder

TRAINING = Training(
    id="x", owner="", dataset="cats", name="cats", preset="taste", changes=(), created_at=0.0, state="running"
)


def test_a_run_that_goes_on_is_as_far_as_it_was_until_it_tells_more(tmp_path: Path) -> None:
    folder, before = RunFolder(tmp_path / "work", TRAINING), Progress(step=40, steps=50, images=320, loss=0.25)
    (folder.run / "recipe.json").write_text(json.dumps({"max_steps": 50, "batch_size": 8}))
    assert folder.progress(Progress()) == Progress(steps=50), "one that begins"
    assert folder.progress(before) == before
    entry = {"step": 41, "loss": 0.125, "images_per_second": 4.0}
    (folder.run / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
    after = folder.progress(before)
    assert (after.step, after.images, after.loss, after.seconds_left) == (41, 328, 0.125, (18, 18))
