"""What serves can be told to stop before it does: the first seconds go by with imports and models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import free_port
from tests.waiting import wait_until

# In place of a module that every command imports.
SLOW_IMPORT = """
import pathlib, time
pathlib.Path("importing").touch()
time.sleep(600)
"""
# A signal between the first handlers and those of uvicorn.
EARLY_SIGNAL = """
import os, signal
from app.http import server
from app.main import ApiSettings, serve

run = server.DrainingServer.run

def interrupted(self):
    os.kill(os.getpid(), signal.SIGTERM)
    run(self)

server.DrainingServer.run = interrupted
serve(ApiSettings())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["serve", "api", "worker"])
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


def test_the_api_ends_cleanly_before_it_listens(redis_url: str, models_dir: Path) -> None:
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "DIFUSO_PORT": str(free_port()),
        "DIFUSO_MODELS_DIR": str(models_dir),
    }
    done = subprocess.run([sys.executable, "-c", EARLY_SIGNAL], env=environment, timeout=40, check=False)
    assert done.returncode == 0
