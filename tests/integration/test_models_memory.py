"""Models within a bound of memory: more of them than fit are drawn by one worker, which loads and unloads them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from pydantic import ByteSize

from difuso.app.settings import ApiSettings
from difuso.jobs.cascade import enlarging
from difuso.jobs.contract import JobState
from difuso.jobs.kinds.generate import Generation
from difuso.model import ModelConfig, save_checkpoint
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import UNetConfig
from difuso.worker.engine.models import ModelFollower
from difuso.worker.engine.served_models import Folder, Known, Models
from difuso.worker.queue.demand import making_room
from difuso.worker.settings import WorkerSettings
from tests.app_server import FakeWorker, running
from tests.waiting import wait_until
from tests.worker_stack import Stack

pytestmark = pytest.mark.timeout(120)
NAMES = [f"m{number:02}" for number in range(20)]
# The load of one model waits until a file is there.
HELD_UP = """
import time
from pathlib import Path
from difuso.worker.engine import models as it
load = it.load_checkpoint
def wait(folder, **options):
    while folder.name == "m01" and not Path({go!r}).exists():
        time.sleep(0.01)
    return load(folder, **options)
it.load_checkpoint = wait
"""


@pytest.fixture(scope="module")
def many(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of twenty models."""
    folder = tmp_path_factory.mktemp("many")
    for name in NAMES:
        shutil.copytree(models_dir / "tiny", folder / name)
    return folder


def size_of(folder: Path, *names: str) -> int:
    """Returns the bytes that these models may take."""
    follower = ModelFollower(WorkerSettings(models_dir=folder, slots=1, device="cpu", models_memory=ByteSize(1 << 40)))
    follower.load_first()
    return sum(follower.models.folders[name].bytes for name in names)


@pytest.fixture
def one(many: Path) -> int:
    """Returns the bytes that one of the twenty models may take."""
    return size_of(many, "m00")


@pytest.fixture
def fleet(redis_url: str, many: Path, tmp_path: Path) -> Iterator[Stack]:
    with closing(Stack(redis_url, many, tmp_path)) as stack:
        yield stack


def loaded(stack: Stack) -> list[str]:
    return [each.name for report in stack.queue.workers() for each in report.models if each.ready]


def are_over(stack: Stack, ids: list[str], look: Callable[[], None] = lambda: None) -> Callable[[], bool]:
    left = ids.copy()

    def over() -> bool:
        look()
        while left and all(state.is_terminal for state in stack.states(left[:1])):
            del left[0]
        return not left

    return over


def test_twenty_models_draw_where_five_fit(fleet: Stack, one: int) -> None:
    fleet.start_worker(slots=1, models_memory=5 * one, preload="m07,m08")
    versions = fleet.model("m00").versions  # of all, which are copies
    ids = [fleet.submit(model=name, steps=2, seed=n, versions=versions) for n in range(2) for name in NAMES]
    seen: set[str] = set()

    def look() -> None:
        now = loaded(fleet)
        assert len(now) <= 5
        assert not now or {"m07", "m08"} <= {*now}
        seen.update(now)

    wait_until(are_over(fleet, ids, look), 90, "every job has ended")
    assert fleet.states(ids) == {JobState.SUCCEEDED}
    (report,) = fleet.queue.workers()
    assert {each.name for each in report.models if each.held} == {*NAMES}
    assert fleet.log(0).count("is warm on") >= len(NAMES)


def test_a_model_that_comes_back_is_warm_at_once_and_draws_the_same(fleet: Stack, one: int) -> None:
    """Its warm-up is not repeated, though it chose among many batch sizes."""
    fleet.start_worker(slots=8, models_memory=one)
    before = [fleet.submit(model=name, steps=3, n=3) for name in NAMES[:2]]
    fleet.finish(before, 60)
    after = [fleet.submit(model=name, steps=3, n=3) for name in NAMES[:2]]
    fleet.finish(after, 60)
    assert [fleet.images(each) for each in after] == [fleet.images(each) for each in before]


def test_jobs_go_on_while_another_model_is_loaded(fleet: Stack, one: int, tmp_path: Path) -> None:
    go = tmp_path / "go"
    fleet.start_worker(HELD_UP.format(go=str(go)), slots=1, models_memory=2 * one)
    cold = fleet.submit(model="m01", steps=2)

    def is_loading() -> bool:
        return any(each.loading for report in fleet.queue.workers() for each in report.models)

    wait_until(is_loading, 60, "it is being loaded")
    fleet.finish([fleet.submit(model="m00", steps=2) for _ in range(8)], 60)
    assert fleet.states([cold]) == {JobState.QUEUED}
    go.touch()
    fleet.finish([cold], 60)


@pytest.mark.slow
def test_a_model_that_is_never_idle_gives_way_and_comes_back(fleet: Stack, one: int) -> None:
    first = "import difuso.worker.queue.demand as it; it.LEAST_PATIENCE, it.PATIENCE = 0.1, 0"
    fleet.start_worker(first, slots=1, models_memory=one)
    versions = fleet.model("m00").versions
    flood = [fleet.submit(model="m00", steps=20, versions=versions) for _ in range(30)]
    wait_until(lambda: JobState.RUNNING in fleet.states(flood), 60, "the flood has begun")
    cold = fleet.submit(model="m01", steps=2)
    wait_until(are_over(fleet, [cold]), 60, "the other model has drawn")
    assert fleet.states(flood[-1:]) == {JobState.QUEUED}
    wait_until(are_over(fleet, flood), 90, "the flood is over")
    assert fleet.states(flood) == {JobState.SUCCEEDED}


def test_a_model_that_never_fits_is_refused_by_name(fleet: Stack, one: int, many: Path) -> None:
    settings = WorkerSettings(
        models_dir=many, slots=1, device="cpu", models_memory=ByteSize(one), preload=frozenset({"m03"})
    )
    follower = ModelFollower(settings)
    follower.load_first()
    assert {ref.partition("@")[0] for ref in follower.models.runners} == {"m03"}
    assert follower.models.refused.keys() == {*NAMES} - {"m03"}
    assert "do not fit into DIFUSO_MODELS_MEMORY" in follower.models.refused["m00"].reason


def test_cascades_that_need_each_others_room_all_end(redis_url: str, cascade_models_dir: Path, tmp_path: Path) -> None:
    """Jobs that were claimed hold one model and wait for a second."""
    folder = tmp_path / "cascades"
    for copy in ("", "2"):
        for name in ("tiny", "tiny-up"):
            shutil.copytree(cascade_models_dir / name, folder / f"{name}{copy}")
    room = size_of(folder, "tiny", "tiny-up")
    with closing(Stack(redis_url, folder, tmp_path)) as stack:
        ids = []
        for copy in ("", "2") * 3:
            models = stack.model(f"tiny{copy}"), stack.model(f"tiny-up{copy}")
            stage = enlarging(*models, steps=2, augmentation=None, prefix="upscale")
            ids.append(stack.submit(Generation(upscale=stage), model=f"tiny{copy}", steps=3))
        stack.start_worker(slots=1, models_memory=room)
        stack.finish(ids, 90)


@pytest.mark.timeout(120)
def test_a_cascade_whose_models_do_not_fit_together_is_refused(
    redis_url: str, cascade_models_dir: Path, tmp_path: Path
) -> None:
    """Each fits by itself. A job that was accepted while no worker lived fails with the same reason."""
    room = max(size_of(cascade_models_dir, name) for name in ("tiny", "tiny-up"))
    settings = ApiSettings(redis_url=redis_url, models_dir=cascade_models_dir, store_url=str(tmp_path / "store"))
    query, why = "/generate?upscale=tiny-up&steps=2", "No worker serves tiny and tiny-up together"
    with closing(Stack(redis_url, cascade_models_dir, tmp_path)) as stack, running(settings) as api:
        early = api.post(query, headers={"Prefer": "respond-async"}).json()["id"]
        first = "import difuso.worker.queue.reader_threads as it; it.REFUSED_SECONDS = 1"
        stack.start_worker(first, slots=1, models_memory=room)
        wait_until(are_over(stack, [early]), 60, "the job has ended")
        failure = api.get(f"/jobs/{early}").json()["failure"]
        assert failure["code"] == "refused"
        assert why in failure["detail"]
        answer = api.post(query)
        assert (answer.status_code, why in answer.text) == (503, True)
        assert api.post("/generate?steps=2").status_code == 200


def test_clients_hear_that_a_model_is_loaded_first(settings: ApiSettings, worker: FakeWorker, tmp_path: Path) -> None:
    facts: dict[str, Any] = {"ready": False, "newest": True, "load_seconds": 2.5, "rate": 10.0}
    with running(settings.model_copy(update={"store_url": str(tmp_path / "store")})) as api:

        def told() -> tuple[str, float | None, int]:
            model = api.get("/models/tiny").json()
            return model["state"], model.get("load_seconds"), model["workers"]

        def price(**more: Any) -> dict[str, Any]:
            answer = api.post("/generate", params={"steps": 20, "dry_run": "true", **more})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        worker.report(**facts)
        assert told() == ("loadable", 2.5, 1)
        found = price(version=worker.ref().partition("@")[2])
        assert (found["seconds"], found["load_seconds"], found["eta_seconds"]) == (2.0, 2.5, 4.5)
        assert 'difuso_workers{model="tiny"} 1.0' in api.get("/metrics").text
        worker.report(**facts, loading=True)
        assert told() == ("loading", 2.5, 1)
        worker.report(ready=True, rate=10.0)
        assert told() == ("ready", None, 1)
        assert "load_seconds" not in price()


def held(**used: float) -> Models:
    """Models of 10 bytes each that were used at some time, and `z`, which is not loaded, where 30 bytes fit."""
    runners = {f"{name}@": cast(Any, SimpleNamespace(bytes=10, used_at=at)) for name, at in used.items()}
    known = {"z@": cast(Known, SimpleNamespace(bytes=10))}
    folders = {name: Folder((), f"{name}@") for name in [*used, "z"]}
    return Models(runners, folders, dict.fromkeys(folders, ()), known, bound=30, pinned=frozenset("p"))


@pytest.mark.parametrize(
    ("models", "busy", "even", "gone"),
    [
        (held(a=1, b=2), "", "", []),
        (held(a=3, b=1, c=2), "", "", ["b@"]),
        (held(a=3, b=1, c=2), "b", "", ["c@"]),
        (held(p=1, b=2, c=3), "b", "", ["c@"]),
        (held(a=3, b=1, c=2), "abc", "", None),
        (held(a=3, b=1, c=2), "abc", "abc", ["a@"]),
        (held(a=3, b=1, c=2), "abc", "bc", ["b@"]),
        (held(p=1, b=2, c=3), "abc", "abc", ["b@"]),
    ],
)
def test_what_was_not_used_for_longest_gives_way(models: Models, busy: str, even: str, gone: list[str] | None) -> None:
    refs, may_end = ({f"{name}@" for name in names} for names in (busy, even))
    assert making_room(models, "z@", refs, even=may_end) == gone


@pytest.mark.long
@pytest.mark.timeout(600)
def test_fifty_models_of_20_mb_draw_in_600_mb(redis_url: str, tmp_path: Path) -> None:
    """The memory of the process stays below what it takes with one model, and the bound."""
    config = ModelConfig(
        UNetConfig(channels=64, channel_mult=(1, 2, 2), attention_levels=(), head_channels=32), image_size=16
    )
    folder = tmp_path / "models"
    names = [f"m{number:02}" for number in range(50)]
    for number, name in enumerate(names):
        torch.manual_seed(number)
        save_checkpoint(folder / name, config, build_network(config.network), dtype=torch.float32)
    assert 18e6 < (folder / "m00" / "model.safetensors").stat().st_size < 26e6
    with closing(Stack(redis_url, folder, tmp_path)) as stack:
        pid = stack.start_worker(slots=2, models_memory="600MB").pid

        def rss() -> float:
            return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])

        wait_until(lambda: loaded(stack), 60, "the first model is loaded")
        alone, most, count = rss(), 0.0, 0

        def look() -> None:
            nonlocal most, count
            most, count = max(most, rss()), max(count, len(loaded(stack)))

        ids = [stack.submit(model=name, steps=2, seed=n) for n in range(3) for name in names]
        wait_until(are_over(stack, ids, look), 500, "every job has ended")
        assert stack.states(ids) == {JobState.SUCCEEDED}
        assert count >= 12
        assert most < alone + 700e6


def test_an_operator_is_told_of_a_name_without_a_model(many: Path, one: int, caplog: pytest.LogCaptureFixture) -> None:
    settings = WorkerSettings(
        models_dir=many, slots=1, device="cpu", models_memory=ByteSize(one), preload=frozenset({"typo"})
    )
    ModelFollower(settings).load_first()
    assert "there is no folder of the model typo, which DIFUSO_PRELOAD names" in caplog.text
