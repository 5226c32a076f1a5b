"""The script that prepares the volumes of the compose stack, run as root with the one right that its container has."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker/redis/prepare.sh"
USER = 10001  # of Redis and difuso


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="this needs root and setpriv")
def test_redis_is_prepared_at_every_start(tmp_path: Path) -> None:
    """From the second on, what Redis has written is closed to others."""
    auth, data = tmp_path / "redis-auth", tmp_path / "data"
    for folder in (auth, data):
        folder.mkdir()
        folder.chmod(0o755)
    script = SCRIPT.read_text().replace("/run/redis-auth", str(auth)).replace("/data", str(data))
    command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all,+chown", "sh", "-c", script]
    subprocess.run(command, check=True)
    password = (auth / "password").read_text()
    assert {path.stat().st_uid for path in (auth, data, *auth.iterdir())} == {USER}
    (data / "appendonlydir").mkdir(mode=0o700)
    os.chown(data / "appendonlydir", USER, USER)
    subprocess.run(command, check=True)
    assert (auth / "password").read_text() == password
