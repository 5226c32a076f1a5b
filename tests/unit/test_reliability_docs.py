"""docs/reliability.md names tests that exist, and faults as the driver has them."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.chaos.schedule import HABITS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`(test_\w+)`", PAGE))


def test_the_tests_that_hold_the_rows_exist() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    defined = {name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)\(", source, re.MULTILINE)}
    assert len(NAMED) > 50
    assert defined >= NAMED


def test_every_fault_of_the_driver_has_its_row() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([\w-]+)` \| (\d+) s \|", PAGE, re.MULTILINE)
    assert {name: float(seconds) for name, seconds in rows} == {kind: habit.every for kind, habit in HABITS.items()}
