"""What serves can be stopped before it does: the first seconds go by with imports and models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

# In place of a module that every command imports.
SLOW_IMPORT = """
import pathlib, time
pathlib.Path("importing").touch()
while True:  # a signal that comes just before a long sleep would be heard after it
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    ("command", "number"),
    [*((command, signal.SIGTERM) for command in ("serve", "api", "worker")), ("serve", signal.SIGINT)],
)
def test_a_service_ends_cleanly_while_it_is_imported(tmp_path: Path, command: str, number: signal.Signals) -> None:
    (tmp_path / "typer.py").write_text(SLOW_IMPORT)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-P", "-m", "difuso", command], cwd=tmp_path, env=environment)
    try:
        wait_until((tmp_path / "importing").exists, 20, "the import has begun")
        process.send_signal(number)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
