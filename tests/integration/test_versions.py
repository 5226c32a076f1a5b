"""Versions of a model and of difuso in one fleet: pictures are of the version that they name, and none is lost."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from difuso.app.settings import ApiSettings
from difuso.jobs import understanding
from difuso.jobs.catalog import read_catalog
from difuso.jobs.contract import FailureCode, JobState
from difuso.jobs.image_recipe import job_of
from difuso.jobs.redis import status
from difuso.jobs.redis.keys import QueueName, known_queues
from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from difuso.model.png import PNG_KEY
from difuso.worker.engine.models import make_runner
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import pick_device
from tests.app_server import running
from tests.stepping import pngs_of
from tests.waiting import wait_until
from tests.worker_stack import Stack
from tests.worker_stack import running as is_running

pytestmark = pytest.mark.timeout(180)
WAIT = {"Prefer": "wait=60"}
PNG = {"Accept": "image/png"}


@dataclass(frozen=True)
class Versions:
    """Two models folders with one version each of `tiny`, and one with both: `tiny` and `tiny@before`."""

    older: Path
    newer: Path
    both: Path

    @property
    def old(self) -> str:
        return read_catalog(self.older).models["tiny"].version

    @property
    def new(self) -> str:
        return read_catalog(self.newer).models["tiny"].version


@pytest.fixture(scope="module")
def versions(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    folder = tmp_path_factory.mktemp("versions")
    found = Versions(*(folder / name for name in ("older", "newer", "both")))
    shutil.copytree(models_dir / "tiny", found.older / "tiny")
    tiny = load_checkpoint(models_dir / "tiny")
    tiny.network.requires_grad_(False).get_parameter("conv_out.bias").add_(0.05)
    save_checkpoint(found.newer / "tiny", tiny.config, tiny.network)
    shutil.copytree(found.newer / "tiny", found.both / "tiny")
    shutil.copytree(found.older / "tiny", found.both / "tiny@before")
    return found


@pytest.fixture
def fleet(redis_url: str, versions: Versions, tmp_path: Path) -> Iterator[Stack]:
    """No worker yet; the jobs that it submits by itself are for the older version."""
    with closing(Stack(redis_url, versions.older, tmp_path)) as stack:
        yield stack


def front_end(redis_url: str, models: Path, tmp_path: Path) -> Any:
    return running(ApiSettings(redis_url=redis_url, models_dir=models, store_url=str(tmp_path / "store")))


def post(api: httpx.Client, **params: int) -> httpx.Response:
    return api.post("/generate", params=params, headers={"Prefer": "respond-async"})


def held(stack: Stack) -> list[str]:
    return sorted(each.version or "" for report in stack.queue.workers() for each in report.models if each.ready)


def recipe_of(png: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(png)) as image:
        facts: dict[str, Any] = json.loads(image.info[PNG_KEY])
        return facts


def draw_here(folder: Path, facts: list[dict[str, Any]]) -> list[bytes]:
    """Draws the pictures of recipes by the model in a folder."""
    runner = make_runner(load_checkpoint(folder), WorkerSettings(slots=8, device="cpu"), device=pick_device("cpu"))
    return [pngs_of(runner, job_of(each))[0] for each in facts]


@pytest.mark.parametrize("count", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_every_picture_is_of_the_version_that_it_names(
    redis_url: str, versions: Versions, fleet: Stack, tmp_path: Path, count: int
) -> None:
    """One worker has other weights than the other; half of the requests pin one of the two."""
    fleet.start_worker(models_dir=versions.older)
    fleet.start_worker(models_dir=versions.newer)
    both = sorted([versions.old, versions.new])
    wait_until(lambda: held(fleet) == both, 60, "both workers are ready")
    with front_end(redis_url, versions.both, tmp_path) as api:

        def ask(number: int) -> tuple[str | None, bytes]:
            asked = None if number % 2 else both[number // 2 % 2]
            params = {"seed": number, "steps": 3} | ({"version": asked[:12]} if asked else {})
            answer = api.post("/generate", params=params, headers=WAIT | PNG)
            assert answer.status_code == 200, answer.text
            job = api.get(f"/jobs/{answer.headers['X-Job-Id']}").json()
            assert job["version"] == recipe_of(answer.content)["version"]
            return asked, answer.content

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(2 * count)))
        listed = api.get("/models/tiny").json()
    assert {each["version"]: each["workers"] for each in listed["versions"]} == dict.fromkeys(both, 1)
    for folder, version in ((versions.older, versions.old), (versions.newer, versions.new)):
        drawn = [png for _, png in answers if recipe_of(png)["version"] == version]
        assert [*draw_here(folder / "tiny", list(map(recipe_of, drawn)))] == drawn
    for asked, png in answers:
        assert recipe_of(png)["version"] == (asked or versions.new), "unpinned requests get the newest"


def test_a_rollout_host_by_host_refuses_and_fails_nothing(
    redis_url: str, versions: Versions, fleet: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either order: the front end first, then a worker, and at the end the previous version is on no host."""
    monkeypatch.setattr("difuso.app.main.LOOK_SECONDS", 0.5)
    fleet.start_worker(models_dir=versions.older)
    models = tmp_path / "models"
    shutil.copytree(versions.older, models)
    wait_until(lambda: held(fleet) == [versions.old], 60, "the worker is ready")
    with front_end(redis_url, models, tmp_path) as api:

        def drawn_by() -> str:
            answer = api.post("/generate", params={"steps": 2}, headers=WAIT | PNG)
            assert answer.status_code == 200, answer.text
            return str(recipe_of(answer.content)["version"])

        def current() -> str:
            return str(api.get("/models/tiny").json()["version"])

        assert drawn_by() == versions.old
        shutil.rmtree(models / "tiny")
        shutil.copytree(versions.newer / "tiny", models / "tiny")
        wait_until(lambda: versions.new in str(api.get("/models/tiny").json()), 30, "the front end has seen it")
        assert drawn_by() == versions.old, "nobody holds the newer one yet"
        fleet.start_worker(models_dir=versions.newer)
        wait_until(lambda: current() == versions.new, 60, "a worker holds the newer one")
        assert drawn_by() == versions.new
        metrics = api.get("/metrics").text
        assert 'difuso_model_versions{model="tiny"} 2.0' in metrics
        fleet.workers[0].terminate()
        wait_until(lambda: held(fleet) == [versions.new], 30, "the previous worker is gone")
        assert drawn_by() == versions.new


@pytest.mark.slow
def test_a_front_end_that_knows_only_a_newer_version_gets_the_one_that_is_there(
    redis_url: str, versions: Versions, fleet: Stack, tmp_path: Path
) -> None:
    """As one that starts in the middle of a rollout. Whoever waits hears of the same job as whoever asks later."""
    fleet.start_worker(models_dir=versions.older)
    wait_until(lambda: held(fleet) == [versions.old], 60, "the worker is ready")
    settings = ApiSettings(
        redis_url=redis_url, models_dir=versions.newer, store_url=str(tmp_path / "store"), max_jobs=3
    )
    with running(settings) as api:
        answer = api.post("/generate", params={"steps": 2}, headers=WAIT | {"Accept": "application/json"})
        later = api.get(f"/jobs/{answer.headers['X-Job-Id']}")
        assert (answer.json()["version"], answer.headers["ETag"]) == (versions.old, later.headers["ETag"])
        first = post(api, steps=1000)
        wait_until(lambda: is_running(fleet, [first.headers["X-Job-Id"]]), 60, "it is bound, and runs")
        codes = [post(api, steps=1000, n=64).status_code for _ in range(3)]
        assert codes == [202, 202, 429], "bound jobs count, and those that wait to be"


def test_a_pinned_version_that_nobody_holds_is_a_conflict(
    redis_url: str, versions: Versions, fleet: Stack, tmp_path: Path
) -> None:
    fleet.start_worker(models_dir=versions.newer)
    wait_until(lambda: held(fleet) == [versions.new], 60, "the worker is ready")
    with front_end(redis_url, versions.both, tmp_path) as api:
        for version, code in ((versions.old, 409), ("ab" * 32, 409), ("ab", 422), (versions.new[:12], 200)):
            answer = api.post("/generate", params={"version": version, "steps": 1}, headers=WAIT | PNG)
            assert answer.status_code == code, answer.text
            assert code != 409 or answer.json()["type"] == "/problems/version-gone"


def test_folders_with_tags_are_served_side_by_side(
    redis_url: str, versions: Versions, fleet: Stack, tmp_path: Path
) -> None:
    fleet.start_worker(models_dir=versions.both)
    wait_until(lambda: len(held(fleet)) == 2, 60, "both versions are loaded")
    with front_end(redis_url, versions.both, tmp_path) as api:
        for version in (versions.old, versions.new):
            answer = api.post("/generate", params={"version": version, "steps": 1}, headers=WAIT | PNG)
            assert recipe_of(answer.content)["version"] == version
        listed = api.get("/models").json()["models"]
        assert [each["name"] for each in listed] == ["tiny"]
        assert [(each["folder"], each["workers"]) for each in listed[0]["versions"]] == [
            ("tiny", 1),
            ("tiny@before", 1),
        ]
        assert 'difuso_model_versions{model="tiny"} 1.0' in api.get("/metrics").text


def test_a_job_of_a_model_that_every_worker_refuses_fails_with_their_reason(
    redis_url: str, versions: Versions, models_dir: Path, fleet: Stack, tmp_path: Path
) -> None:
    """It was accepted before any worker had reported."""
    models = tmp_path / "models"
    shutil.copytree(versions.older / "tiny", models / "tiny")
    shutil.copytree(models_dir / "tiny", models / "other")
    with (models / "tiny" / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"!")  # one flipped byte
    job_id = fleet.submit()
    fleet.start_worker(first="import difuso.worker.queue.stranded as it; it.REFUSED_SECONDS = 2", models_dir=models)
    with front_end(redis_url, versions.older, tmp_path) as api:
        wait_until(lambda: fleet.states([job_id]) == {JobState.FAILED}, 60, "the job has failed")
        failure = api.get(f"/jobs/{job_id}").json()["failure"]
        assert failure["code"] == "refused"
        assert "model.safetensors does not match its SHA-256 sum" in failure["detail"]
        answer = api.get(f"/jobs/{job_id}/image")
        assert (answer.status_code, answer.json()["detail"]) == (503, failure["detail"])


# Versions of difuso. The newer one has a sampler that the older one lacks.
NEXT = understanding.CONTRACT + 1
NEWER = f"from difuso.jobs import understanding as it; it.CONTRACT = {NEXT}; it.SINCE = {{'sampler unipc': {NEXT}}}"
OLDER = (
    "from difuso.jobs import understanding as it; it.SAMPLERS = {n: s for n, s in it.SAMPLERS.items() if n != 'unipc'}"
)
NEW_FEATURE = {"sampler": "unipc", "steps": 4}


@pytest.fixture
def newer_here(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This process, and so the front ends of the tests, are of the newer version until it is undone."""
    monkeypatch.setattr(understanding, "CONTRACT", NEXT)
    monkeypatch.setattr(understanding, "SINCE", {"sampler unipc": NEXT})
    return monkeypatch


def roll_back(newer_here: pytest.MonkeyPatch) -> None:
    newer_here.undo()
    status._job_of.cache_clear()  # what this process read while it was newer


def ready(stack: Stack, workers: int) -> bool:
    return len(held(stack)) == workers


@pytest.mark.usefixtures("newer_here")
def test_a_front_end_ahead_of_its_workers_accepts_what_they_understand(
    redis_url: str, versions: Versions, fleet: Stack, tmp_path: Path
) -> None:
    """And all else as soon as one worker is newer, which alone draws it."""
    fleet.start_worker(OLDER)
    wait_until(lambda: ready(fleet, 1), 60, "the older worker is ready")
    with front_end(redis_url, versions.older, tmp_path) as api:
        assert api.post("/generate", params={"steps": 2}, headers=WAIT | PNG).status_code == 200
        refused = api.post("/generate", params=NEW_FEATURE)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not-understood")
        assert refused.headers["Retry-After"]
        assert "sampler unipc" in refused.json()["detail"]
        fleet.start_worker(NEWER)
        wait_until(lambda: ready(fleet, 2), 60, "the newer worker is ready")
        with ThreadPoolExecutor(8) as pool:
            asked = [dict(NEW_FEATURE, seed=seed) if seed % 2 else {"steps": 3, "seed": seed} for seed in range(16)]
            answers = list(pool.map(lambda params: api.post("/generate", params=params, headers=WAIT | PNG), asked))
        assert {answer.status_code for answer in answers} == {200}
    assert "cannot be started" not in fleet.log(0)


def test_after_a_rollback_a_job_that_needs_the_newer_version_waits_for_it(
    redis_url: str, versions: Versions, fleet: Stack, tmp_path: Path, newer_here: pytest.MonkeyPatch
) -> None:
    """Older workers leave it alone and draw the others; an older front end says that it is kept."""
    with front_end(redis_url, versions.older, tmp_path) as api:
        job_id = api.post("/generate", params=NEW_FEATURE, headers={"Prefer": "respond-async"}).headers["X-Job-Id"]
    roll_back(newer_here)
    fleet.start_worker(OLDER)
    others = [fleet.submit(seed=seed) for seed in range(3)]
    fleet.finish(others, 60)
    with front_end(redis_url, versions.older, tmp_path) as api:
        answer = api.get(f"/jobs/{job_id}")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/job-is-newer")
        assert answer.headers["Retry-After"]
        assert [job["id"] for job in api.get("/jobs").json()["jobs"]] == others[::-1]
    fleet.start_worker(NEWER)
    newer_here.setattr(understanding, "CONTRACT", NEXT)
    fleet.finish([job_id], 60)
    roll_back(newer_here)
    with front_end(redis_url, versions.older, tmp_path) as api:
        answer = api.get(f"/jobs/{job_id}/image", headers=PNG)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/job-is-newer")


def test_a_job_that_no_worker_will_ever_read_ends_when_its_time_is_over(
    fleet: Stack, newer_here: pytest.MonkeyPatch
) -> None:
    job_id = fleet.submit(sampler="unipc", spacing="trailing", steps=4)
    job = fleet.queue.status(job_id).job
    assert job.contract == NEXT
    assert QueueName(job.ref, NEXT, job.urgency) in known_queues(fleet.client)
    roll_back(newer_here)
    fleet.start_worker(OLDER, version_wait=2)
    newer_here.setattr(understanding, "CONTRACT", NEXT)
    wait_until(lambda: fleet.states([job_id]) == {JobState.FAILED}, 60, "it has failed")
    assert fleet.queue.status(job_id).failure is FailureCode.UNSUPPORTED
