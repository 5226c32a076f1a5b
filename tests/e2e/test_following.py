"""Following one request through all processes, by its id."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.app_server import ALICE, keys_file
from tests.serving import running
from tests.waiting import WaitUntil


@pytest.mark.usefixtures("redis_server")
def test_one_search_finds_a_request_in_the_logs_of_all_processes(
    tmp_path: Path, environment: dict[str, str], wait_until: WaitUntil
) -> None:
    keys = str(keys_file(tmp_path))
    with running(tmp_path, {**environment, "DIFUSO_LOG_FORMAT": "json", "DIFUSO_API_KEYS_FILE": keys}) as difuso:
        answer = httpx.post(f"{difuso.url}/generate?steps=3", headers=ALICE, timeout=30)
        httpx.get(f"{difuso.url}/nothing%0d%0a12:00:00%20api%20all%20is%20well", headers=ALICE)
        assert answer.status_code == 200
        wait_until(lambda: '"status": 404' in difuso.output, timeout=10, description="the second request is logged")
        # Each line is an event of its own, whatever was asked for.
        lines = [json.loads(line) for line in difuso.output.splitlines()]
        assert "alice-key" not in difuso.output
    found = {
        (line["process"], line["event"]): line
        for line in lines
        if line.get("request_id") == answer.headers["X-Request-Id"]
    }
    assert found.keys() == {
        ("api", "job accepted"),
        ("worker", "job claimed"),
        ("worker", "job ended"),
        ("api", "request"),
    }
    assert {found[key]["job_id"] for key in found if key[1] != "request"} == {answer.headers["X-Job-Id"]}
    request = found["api", "request"]
    assert (request["method"], request["route"], request["status"], request["key"]) == (
        "POST",
        "/generate",
        200,
        "alice",
    )
    assert {line["process"] for line in lines} == {"difuso", "api", "worker"}
