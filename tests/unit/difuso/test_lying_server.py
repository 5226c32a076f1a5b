"""What a server that lies can do to the terminal: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from difuso import cli
from difuso.client import Client

EVIL = "\x1b]0;title\x07\u202e[bold]a[/x]"
SHOWN = r"\x1b]0;title\x07\u202e[bold]a[/x]"
COUNTS = {"jobs": 1, "images": 1, "image_steps": 1, "device_seconds": 1.0, "stored_bytes": 1}
ANSWERS: dict[str, Any] = {
    "/usage": {"from": EVIL, "to": EVIL, "days": [{"day": EVIL, "key": EVIL, **COUNTS}]},
    "/fleet": {
        "workers": [{"name": EVIL, "host": EVIL, "difuso": EVIL, "cordoned": True, "models": [{"name": EVIL}]}],
        "queues": [],
        "paused": [EVIL],
    },
    "/trainings": {"trainings": [{"id": "x", "name": "p", "dataset": EVIL, "preset": "good", "state": EVIL}]},
    "/trainings/x": {"id": "x", "name": "p", "state": "stopped", "log": EVIL},
}


@pytest.mark.parametrize("words", [["usage"], ["fleet"], ["train", "p.zip", "--name", "p"]], ids=" ".join)
def test_it_neither_commands_a_terminal_nor_ends_a_command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def connected(server: str) -> Client:
        return Client(
            server, transport=httpx.MockTransport(lambda request: httpx.Response(200, json=ANSWERS[request.url.path]))
        )

    for module in ("usage", "fleet", "remote_training"):
        monkeypatch.setattr(f"difuso.commands.{module}.connected", connected)
    monkeypatch.setattr("difuso.commands.remote_training.LOOK_SECONDS", 0)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    Path("p.zip").touch()
    result = CliRunner().invoke(cli.app, [*words, "--server", "http://a.example"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert SHOWN in result.output
    assert not {"\x1b", "\x07", "\u202e"}.intersection(result.output)
