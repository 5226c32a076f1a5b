"""`benchmarks.quality` chooses on one half of seeds and real pictures and reports on the other, by itself."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import quality
from benchmarks.quality import Line, chosen, main
from benchmarks.quality_shown import KID
from evaluation.features import EfficientNetLite0
from evaluation.image_sets import Half
from model import load_checkpoint, save_checkpoint
from model.folders.config import SamplerDefaults
from tests.colours import Colours

pytestmark = pytest.mark.usefixtures("one_thread")


DEFAULTS = SamplerDefaults("ddim", 2, "trailing")
LINES = (Line("ddim", "trailing", (1, 2)), Line("ddpm", steps=(2, 3)))


@pytest.fixture(scope="module")
def folder(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs the benchmark of a tiny model; returns the folder of its report and of what it printed."""
    folder = tmp_path_factory.mktemp("quality")
    checkpoint = load_checkpoint(models_dir / "tiny")
    config = replace(checkpoint.config, defaults=DEFAULTS, plans={"few": SamplerDefaults("unipc", 2, "trailing")})
    save_checkpoint(folder / "tiny", config, checkpoint.network)
    real = np.random.default_rng(0).integers(0, 256, (130, *config.shape.hwc), dtype=np.uint8)
    threads, printed = torch.get_num_threads(), StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed):
        patched.setattr(quality, "LINES", LINES)
        patched.setattr(quality, "FEWEST", 24)
        patched.setattr(quality, "CONVERGED", (Line("ddim"), 4))
        patched.setattr(quality, "EfficientNetLite0", Colours)
        patched.setattr(Colours, "name", EfficientNetLite0.name)
        patched.setattr(quality, "real_images", lambda data, count, shape: real[:count])
        main(folder / "tiny", "faces", images=48, out=folder / "bench.json", plot=folder / "bench.png")
    torch.set_num_threads(threads)
    (folder / "printed.txt").write_text(printed.getvalue(), encoding="utf-8")
    return folder


@pytest.fixture
def told(folder: Path) -> tuple[dict[str, Any], str]:
    report = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    return report, (folder / "printed.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_was_chosen_is_reported_on_other_seeds_and_other_real_pictures(
    told: tuple[dict[str, Any], str], folder: Path
) -> None:
    report, printed = told
    settings = report["settings"]
    assert settings["choosing"]["seeds"] == [3_000_000, 3_000_047]
    assert settings["reporting"]["seeds"] == [1_000_000, 1_000_047]
    assert (settings["choosing"]["references"], settings["reporting"]["references"]) == (65, 65)
    assert "seeds 3000000 to 3000047" in printed
    assert "seeds 1000000 to 1000047" in printed
    seeds = {half: {int(path.stem) for path in folder.rglob(f"bench/**/{half.seed // 10**6}*.png")} for half in Half}
    assert seeds == {half: set(range(half.seed, half.seed + 48)) for half in Half}
    tried = {(name, point["steps"]): point for name, points in report["tried"].items() for point in points}
    assert set(tried) == {(line.name, steps) for line in LINES for steps in line.steps}
    reported = report["reported"]
    assert sorted(row["steps"] for row in reported if "best tried" in row["why"]) == [1, 2, 3]
    assert {"default", "plan few"} <= {part for row in reported for part in row["why"].split(", ")}
    assert (folder / "bench.png").stat().st_size > 0
    for row in reported:
        if point := tried.get((row["name"], row["steps"])):
            assert row[KID] != point[KID]  # other pictures, compared with others


@pytest.mark.slow
def test_real_pictures_are_measured_as_often_as_the_cells_are_large(told: tuple[dict[str, Any], str]) -> None:
    """A Fréchet distance of 48 pictures cannot be compared with one of 500."""
    report, printed = told
    for half in Half:
        rows = report["real"][half]
        drawn = {point["images"] for points in report["tried"].values() for point in points}
        assert {row["images"] for row in rows} == drawn == {48}
        assert all(abs(row[KID]) < 3 * row[f"{KID} error"] + 0.01 for row in rows)
    assert printed.count("other real") == 2


def test_the_choice_is_that_of_the_pictures_for_choosing() -> None:
    """The best of each number of steps, once, though it may be the default, too."""
    config = replace(load_checkpoint(Path("checkpoints/faces64")).config, defaults=DEFAULTS, plans={})
    lines = {line.name: [{"steps": steps, KID: 0.5} for steps in line.steps] for line in quality.LINES}
    for name, steps in (("unipc trailing", 2), ("ddim trailing", 4)):
        next(point for point in lines[name] if point["steps"] == steps)[KID] = 0.1
    found = chosen(lines, config)
    assert {why for (line, steps), why in found.items() if (line.sampler, steps) == ("unipc", 2)} == {"best tried"}
    assert found[Line("ddim", "trailing", ()), 4] == "best tried"
    assert found[Line("ddim", "trailing", ()), 2] == "default"
    lines["unipc trailing"][0][KID], lines["ddim trailing"][0][KID] = 0.5, 0.1
    assert chosen(lines, config)[Line("ddim", "trailing", ()), 2] == "best tried, default"
