"""docs/reliability.md lists the faults as the driver has them; `test_docs` holds that its tests exist."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.chaos.schedule import HABITS

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_fault_of_the_driver_has_its_row() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([\w-]+)` \| (\d+) s \|", PAGE, re.MULTILINE)
    assert {name: float(seconds) for name, seconds in rows} == {kind: habit.every for kind, habit in HABITS.items()}
