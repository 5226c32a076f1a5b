"""docs/paper.md and its Spanish twin say the same, and show what the program draws."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.paper.__main__ import FIGURES, FOLDER
from benchmarks.paper.forward import SCHEDULES, SHOWN, signal_to_noise

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("paper.md", "paper.es.md")}
LARGEST = 150_000  # bytes of a figure


def figures(page: str) -> list[str]:
    return re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)


def commands(page: str) -> list[str]:
    """The lines that a reader may type, without what explains them."""
    lines = re.findall(r"^    ((?:make|python|difuso) \S.*)$", page, re.MULTILINE)
    return [re.split(r"\s{2,}#", line)[0] for line in lines]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_figures_of_the_page_are_those_of_the_program(page: str) -> None:
    drawn = [f"images/paper/{name}.png" for name in FIGURES]
    assert sorted(figures(page)) == sorted(drawn)
    assert {path.name for path in (ROOT / FOLDER).iterdir()} == {f"{name}.png" for name in FIGURES}
    assert max((DOCS / figure).stat().st_size for figure in figures(page)) < LARGEST


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_page_has_a_command_for_each_figure(page: str) -> None:
    assert set(re.findall(r"^    python -m benchmarks\.paper (\w+)$", page, re.MULTILINE)) == set(FIGURES)


def test_both_languages_have_the_same_figures_commands_and_numbers() -> None:
    english, spanish = PAGES.values()
    assert figures(english) == figures(spanish)
    assert commands(english) == commands(spanish)
    numbers = [re.findall(r"\d[\d.,]*\d|\d", re.sub(r"\]\([^)]+\)", "", page)) for page in (english, spanish)]
    assert sorted(numbers[0]) == sorted(numbers[1])


NAMED = {
    "paper.md": {"linear": "linear", "cosine": "cosine"},
    "paper.es.md": {"linear": "lineal", "cosine": "cosenoidal"},
}


@pytest.mark.parametrize("name", PAGES)
def test_the_signal_to_noise_ratios_of_the_page(name: str) -> None:
    page, named = PAGES[name], NAMED[name]
    ratios = {name: signal_to_noise(schedule) for name, schedule in SCHEDULES.items()}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    for schedule, found in ratios.items():
        assert [named[schedule], *(f"{found[t]:.3g}" for t in SHOWN)] in rows


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_committed_figure_is_what_the_program_draws(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.paper", "forward", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "forward.png").read_bytes() == (ROOT / FOLDER / "forward.png").read_bytes()
