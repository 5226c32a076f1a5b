"""A fleet in containers: two front ends and two workers, with models in a bucket. `make compose-test` runs it.

One stack serves all tests, in this order. The bucket, and the receiver of webhooks, are on the host.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from tests.compose_stack import OLDER, ComposeStack, engine_trouble, running
from tests.receiver import Receiver, receiving
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

FLEET = (*OLDER, "docker/s3.yml", "tests/compose/fleet.yml")
HOST = "host.docker.internal"  # as containers call it
ADDRESS = "s3://fleet/models"
MANY = [f"m{number}" for number in range(8)]  # more than both workers hold at a time
MEMORY = "7MB"  # for three models: `tiny` takes up to 2 MB
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
COUNT = 60  # jobs that two versions share


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Yields the port of an S3 on the host, which the commands of this process use too."""
    server = ThreadedMotoServer(ip_address="0.0.0.0", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("fleet")
        yield str(port)
    server.stop()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving(host="0.0.0.0") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def fleet(bucket: str, models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    trouble = engine_trouble()
    if trouble is not None:
        pytest.skip(f"no Docker engine ({trouble}): install Docker with Compose, and start it")
    folder = tmp_path_factory.mktemp("fleet")
    (secret := folder / "secret").write_text(SECRET)
    secret.chmod(0o644)  # a user of its own reads it
    run("push", models_dir / "tiny", ADDRESS)
    more = {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{bucket}",
        "DIFUSO_MODELS_DIR": ADDRESS,
        "DIFUSO_MODELS_MEMORY": MEMORY,
        "DIFUSO_FRONT_ENDS": "2",
        "WEBHOOK_SECRET": str(secret),
    }
    with running(folder, FLEET, more) as stack:
        yield stack


def run(*words: object) -> str:
    """Runs a command of difuso on the host; returns its output."""
    command = [sys.executable, "-m", "difuso", *map(str, words)]
    done = subprocess.run(command, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until_all_say(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until so many answers in a row say so that hardly one front end alone gave all of them."""
    agreed = Counter[bool]()

    def holds() -> bool:
        agreed[True] = agreed[True] + 1 if condition() else 0
        return agreed[True] > 20

    wait_until(holds, seconds, what)


def model(fleet: ComposeStack, name: str) -> dict[str, Any]:
    """What some front end says of a model: that to which this connection leads."""
    found: dict[str, Any] = fleet.api.get(f"/models/{name}", headers={"Connection": "close"}).json()
    return found


def versions(fleet: ComposeStack, what: str) -> dict[str, Any]:
    """A figure of each version of `tiny`."""
    return {each["version"]: each[what] for each in model(fleet, "tiny")["versions"]}


def test_all_serve_the_models_of_the_address_and_a_new_version_within_half_a_minute(
    fleet: ComposeStack, models_dir: Path, tmp_path: Path
) -> None:
    until_all_say(lambda: model(fleet, "tiny").get("workers") == 2, 60, "both workers hold the model")
    before = load_checkpoint(models_dir / "tiny")
    assert model(fleet, "tiny")["version"] == before.version
    before.network.requires_grad_(False).get_parameter("conv_out.bias").add_(0.05)
    save_checkpoint(tmp_path / "next", before.config, before.network)
    run("push", tmp_path / "next", ADDRESS, "--as", "tiny@next")
    newer = load_checkpoint(tmp_path / "next").version
    until_all_say(lambda: versions(fleet, "workers").get(newer) == 2, 30, "both workers hold the new version")


def test_more_models_than_memory_are_all_drawn(fleet: ComposeStack, models_dir: Path, tmp_path: Path) -> None:
    for name in MANY:
        shutil.copytree(models_dir / "tiny", tmp_path / name)
        run("push", tmp_path / name, ADDRESS)
    for name in MANY:
        until_all_say(lambda name=name: model(fleet, name).get("workers") == 2, 60, f"all know {name}")  # type: ignore[misc]
    fleet.finish([fleet.submit(model=name, steps=2) for name in 2 * MANY])
    assert "loadable" in {model(fleet, name)["state"] for name in MANY}, "not all are loaded at a time"


def test_two_versions_share_the_requests_and_one_command_goes_back(fleet: ComposeStack) -> None:
    newer = next(each["version"] for each in model(fleet, "tiny")["versions"] if each["folder"] == "tiny@next")
    run("traffic", "tiny", "tiny@next=50", "--models-dir", ADDRESS)
    until_all_say(lambda: versions(fleet, "share").get(newer) == 0.5, 60, "the front ends share the requests")
    ids = [fleet.submit(model="tiny", steps=2) for _ in range(COUNT)]
    fleet.finish(ids)
    drawn = Counter(fleet.api.get(f"/jobs/{each}").json()["version"] for each in ids)
    assert 0.25 < drawn[newer] / COUNT < 0.75  # four standard errors
    shown = run("traffic", "tiny", "--models-dir", ADDRESS, "--server", fleet.address)
    assert newer[:12] in shown
    run("traffic", "tiny", "--back", "--models-dir", ADDRESS)
    until_all_say(lambda: not versions(fleet, "share").get(newer), 60, "all requests get the current version")


def test_what_was_used_is_the_sum_of_the_jobs(fleet: ComposeStack) -> None:
    def used() -> tuple[int, int, float]:
        days = fleet.api.get("/usage").json()["days"]
        jobs, images, units = (sum(day[name] for day in days) for name in ("jobs", "images", "units"))
        return jobs, images, units

    jobs, images, units = used()
    fleet.finish([fleet.submit(model="tiny", steps=2, n=3) for _ in range(5)])
    assert used() == (jobs + 5, images + 15, units + 30)


def test_each_job_calls_back(fleet: ComposeStack, receiver: Receiver) -> None:
    url = f"http://{HOST}:{receiver.url.rpartition(':')[2]}"
    receiver.answers = [500]  # to the first, which is called again
    ids = {fleet.submit(model="tiny", steps=2, webhook=url) for _ in range(4)}
    wait_until(lambda: len(receiver.calls) >= 5, 120, "all were called, one of them twice")
    assert {call.headers["webhook-id"] for call in receiver.calls} == ids
    assert {json.loads(call.body)["type"] for call in receiver.calls} == {"job.succeeded"}
    for each in ids:
        assert fleet.api.get(f"/jobs/{each}").json()["webhook"]["status"] == 204


def workers_of(fleet: ComposeStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.api.get("/fleet").json()["workers"]
    return found


def until_workers_hear(fleet: ComposeStack) -> None:
    """Waits until each has reported twice: after a report it reads what is held back."""
    for _ in range(2):
        after = time.time() + 0.1  # to which the seconds are rounded
        wait_until(partial(_have_reported, fleet, after), 40, "the workers have reported")


def _have_reported(fleet: ComposeStack, after: float) -> bool:
    return all(time.time() - each["silent_seconds"] > after for each in workers_of(fleet))


def test_an_operator_holds_back_a_model_and_a_worker(fleet: ComposeStack) -> None:
    server = ("--server", fleet.address)
    run("fleet", "--pause", "tiny", *server)
    until_workers_hear(fleet)
    waits, other = fleet.submit(model="tiny", steps=2), fleet.submit(model="m0", steps=2)
    fleet.finish([other])
    assert fleet.states([waits]) == ["queued"]
    run("fleet", "--resume", "tiny", *server)
    fleet.finish([waits])
    cordoned, other_worker = (each["name"] for each in workers_of(fleet))
    run("fleet", "--cordon", cordoned, *server)
    until_workers_hear(fleet)
    ids = {fleet.submit(model="tiny", steps=2) for _ in range(10)}
    fleet.finish([*ids])
    lines = [json.loads(line) for line in fleet.log_of_workers().splitlines() if '"job ended"' in line]
    assert {line["worker"] for line in lines if line["job_id"] in ids} == {other_worker}
    run("fleet", "--uncordon", cordoned, *server)
