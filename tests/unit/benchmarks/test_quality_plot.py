"""The plot of quality over time shows each model that ships, and the cards have its figures."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context

from benchmarks.quality_plot import LOOK, plot

ROOT = Path(__file__).parents[3]
RECORDS = {path.parent.name: json.loads(path.read_bytes()) for path in sorted(ROOT.glob("checkpoints/*/quality.json"))}


def record(*rows: tuple[int, float]) -> dict[str, Any]:
    figures = [{"KID-X": {"value": value / 1000, "spread": 0.0005}} for value in (*(kid for _, kid in rows), -0.02)]
    drawn = [{"steps": steps} for steps, _ in rows] + [None]
    return {"rows": [{"figures": each, "drawn": how} for each, how in zip(figures, drawn, strict=True)]}


def texts(svg: str) -> list[str]:
    return [str(each.text) for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_each_run_is_named_and_what_is_real_once_in_the_reader_s_colours() -> None:
    records = {"faces64": record((10, 2.6), (4, 4.9)), "faces64-live": record((1, 9)), "fashion32": record((12, 3.7))}
    with rc_context(LOOK):
        svg = plot(records, {"faces64": 7.0, "faces64-live": 7.0, "fashion32": 6.0}, "a processor")
        assert plot(records, {"faces64": 7.0, "faces64-live": 7.0, "fashion32": 6.0}, "a processor") == svg
    found = texts(svg)
    for words in ("faces64, 10 calls", "4 calls", "faces64-live, 1 call", "fashion32, 12 calls"):
        assert found.count(words) == 1
    assert found.count("real drawn faces") == found.count("real images of clothes") == 1
    assert "prefers-color-scheme:dark" in svg
    assert set(re.findall("fill: (#[0-9a-f]{6})", svg)) == {"#3b82f6", "#dd6b20"}, "all else follows the scheme"


def test_the_plot_that_is_shown_has_all_models_with_figures() -> None:
    found = texts((ROOT / "docs/images/quality.svg").read_text("utf-8"))
    for name, content in RECORDS.items():
        calls = content["rows"][0]["drawn"]["steps"]
        assert f"{name}, {calls} call{'s' * (calls > 1)}" in found


@pytest.mark.parametrize("name", RECORDS)
def test_the_card_of_a_model_has_the_figures_of_its_record(name: str) -> None:
    card = (ROOT / "checkpoints" / name / "README.md").read_text("utf-8")
    for row in RECORDS[name]["rows"]:
        value, error = (1000 * row["figures"]["KID-EfficientNet-Lite0-TF"][part] for part in ("value", "spread"))
        assert f"| {value:.1f} ± {error:.1f} |".replace("-", "\u2212") in card, row["name"]
