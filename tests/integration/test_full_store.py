"""The whole stack on a disk that is full for a while: nothing is accepted that has no room, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from benchmarks.chaos.disk import SmallDisk
from difuso.app.settings import ApiSettings
from difuso.jobs.contract import JobState
from difuso.jobs.kinds import KINDS
from tests.app_server import running
from tests.pictures import black_png
from tests.waiting import wait_until
from tests.worker_stack import RESULT_TTL, Stack

ASYNC = {"Prefer": "respond-async"}
REFUSED = "/problems/store-unavailable"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Yields a disk of 3 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "small", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount a small disk: {mounted.stderr.decode().strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def on_disk(redis_url: str, models_dir: Path, tmp_path: Path, disk: SmallDisk) -> Iterator[Stack]:
    """Yields a stack whose store is on the small disk."""
    with closing(Stack(redis_url, models_dir, tmp_path, store=disk.store)) as stack:
        yield stack


def ask(api: httpx.Client, kind: str, *, dry_run: bool = False) -> httpx.Response:
    """Asks for a job of a kind."""
    files = {name: (name, black_png(16, 16)) for name in KINDS[kind].required}
    parameters = {"restore": {"task": "deblur"}}.get(kind, {}) | ({"dry_run": "true"} if dry_run else {})
    return api.post(f"/{kind}", params=parameters, files=files or None, headers=ASYNC)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_disk_that_is_full_for_a_while_costs_nobody_a_job(
    redis_url: str, models_dir: Path, disk: SmallDisk, on_disk: Stack
) -> None:
    stack = on_disk
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=str(disk.store), result_ttl=RESULT_TTL)
    kinds = ("generate", "denoise", "interpolate", "restore")
    with running(settings) as api:
        worker = stack.start_worker()
        accepted = [ask(api, kind) for kind in kinds]
        long = [api.post("/generate?n=2&steps=1000&sampler=ddpm", headers=ASYNC) for _ in range(4)]
        assert {answer.status_code for answer in (*accepted, *long)} == {202}
        ids = [answer.headers["X-Job-Id"] for answer in (*accepted, *long)]
        running_ids = [answer.headers["X-Job-Id"] for answer in long]
        wait_until(lambda: stack.states(running_ids) == {JobState.RUNNING}, 60, "jobs run")
        disk.fill()
        wait_until(lambda: ask(api, "generate").status_code == 503, 5, "the disk is found full")
        answers = []
        for kind, dry_run in zip(cycle(kinds), cycle((False, False, True)), strict=False):
            answers.append(ask(api, kind, dry_run=dry_run))
            if len(answers) > 300 and "finished jobs wait for the store" in stack.log(0):
                break
        assert {answer.status_code for answer in answers} == {503}, "of every kind"
        assert {answer.json()["type"] for answer in answers} == {REFUSED}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        assert api.get("/readyz").status_code == 200
        assert JobState.FAILED not in stack.states(ids)
        disk.free()
        wait_until(lambda: ask(api, "generate").status_code == 202, 10, "there is room again")
        stack.finish(ids, 120)
        for answer in (*accepted, *long):
            assert api.get(f"{answer.headers['Location']}/image").status_code == 200
        worker.terminate()
        assert worker.wait(30) == 0
