"""docs/reliability.md names tests that exist, and faults as the driver has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.chaos.schedule import HABITS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_holds_a_row_exists(file: str, name: str) -> None:
    (path,) = (ROOT / "tests").rglob(file)
    assert re.search(rf"^def {name}\(|^async def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_fault_of_the_driver_has_its_row() -> None:
    rows = re.findall(r"^\| [^|]+ \| `([\w-]+)` \| (\d+) s \|", PAGE, re.MULTILINE)
    assert {name: float(seconds) for name, seconds in rows} == {kind: habit.every for kind, habit in HABITS.items()}
