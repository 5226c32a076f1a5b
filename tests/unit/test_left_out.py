"""A run of the tests says at its end what it left out, and how to have it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_tests(folder: Path, *arguments: str, path: str = os.environ["PATH"]) -> str:
    """What pytest says in a process of its own, on a machine that is no CI's."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("processes", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_what_is_skipped_is_counted_with_its_reason(tmp_path: Path, processes: str) -> None:
    shutil.copy(ROOT / "tests/left_out.py", tmp_path)
    (tmp_path / "conftest.py").write_text(
        "from left_out import report_left_out\ndef pytest_terminal_summary(terminalreporter):\n"
        "    report_left_out(terminalreporter)\n"
    )
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "@pytest.mark.parametrize('i', range(3))\n"
        "def test_needs_a_tool(i): pytest.skip('no tool: install it')\n"
        "def test_needs_a_package(): pytest.importorskip('nowhere_to_be_found')\n"
    )
    said = run_tests(tmp_path, "-n", processes, "--import-mode=prepend", "-o", "pythonpath=", str(tmp_path))
    assert "3 tests: no tool: install it\n" in said
    assert "1 test: could not import 'nowhere_to_be_found': No module named" in said
    assert "`make setup` installs it\n" in said
    assert "1 passed, 4 skipped" in said


@pytest.mark.slow
def test_without_a_browser_it_says_which_one_to_install(tmp_path: Path) -> None:
    said = run_tests(tmp_path, str(ROOT / "tests/e2e/test_docs_page.py"), "-k", "problem_explains", path="")
    assert "= left out =" in said
    assert "1 test: there is no chromedriver on the PATH: install Chromium and its driver" in said
