"""Two versions of a model share its requests, over the whole stack, while `difuso traffic` gives them shares."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.app.settings import ApiSettings
from difuso.errors import UserError
from difuso.jobs.catalog import read_catalog
from difuso.jobs.pushed_models import push
from difuso.jobs.redis.workers import held_refs
from difuso.jobs.store.blobs import Blobs
from difuso.jobs.traffic import drawn_by
from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from difuso.model.png import PNG_KEY
from tests.app_server import running
from tests.waiting import wait_until
from tests.worker_stack import Stack

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
PNG = {"Accept": "image/png", "Prefer": "wait=60"}
ASYNC = {"Prefer": "respond-async"}


def traffic(*words: object) -> str:
    arguments = ["traffic", *map(str, words)]
    result = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def row(table: str, version: str) -> list[str]:
    """The cells of the line of a version."""
    (line,) = re.findall(rf"│ ({version[:12]} .*)│\n", table)
    return [cell.strip() for cell in line.split("│")]


def changed(folder: Path, name: str, **config: Any) -> None:
    """Writes another version of the model of this name, `NAME@next`."""
    before = load_checkpoint(folder / name)
    next(iter(before.network.parameters())).requires_grad_(False).mul_(1.05)
    save_checkpoint(folder / f"{name}@next", dataclasses.replace(before.config, **config), before.network)


@pytest.fixture
def models(models_dir: Path, tmp_path: Path) -> Path:
    """A models folder with two versions of `tiny`."""
    shutil.copytree(models_dir / "tiny", tmp_path / "models/tiny")
    changed(tmp_path / "models", "tiny")
    return tmp_path / "models"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Front ends of this process look often."""
    for name in ("app.main.LOOK_SECONDS", "app.main.HEAR_SECONDS", "jobs.mirror.LOOK_SECONDS"):
        monkeypatch.setattr(f"difuso.{name}", 0.2)


def start_worker(stack: Stack) -> None:
    stack.start_worker()
    wait_until(lambda: len(held_refs(stack.queue.workers())) == 2, 90, "a worker holds both versions")


@pytest.fixture
def fleet(redis_url: str, models: Path, tmp_path: Path) -> Iterator[Stack]:
    """A worker that holds both versions before a front end hears of it."""
    with closing(Stack(redis_url, models, tmp_path)) as stack:
        start_worker(stack)
        yield stack


@pytest.fixture
def api(redis_url: str, models: Path, tmp_path: Path, quick: None) -> Iterator[httpx.Client]:
    settings = ApiSettings(redis_url=redis_url, models_dir=models, store_url=str(tmp_path / "store"))
    with running(settings) as client:
        yield client


def shares(api: httpx.Client, name: str = "tiny") -> list[float]:
    """The shares that a front end has seen, of the current version and the other."""
    return [each["share"] for each in api.get(f"/models/{name}").json()["versions"]]


def follows(api: httpx.Client, expected: Sequence[float], name: str = "tiny") -> None:
    wait_until(lambda: shares(api, name) == [*expected], 30, f"the front end has seen {expected}")


def version_in(png: bytes) -> str:
    with Image.open(io.BytesIO(png)) as image:
        return str(json.loads(image.info[PNG_KEY])["version"])


def test_requests_are_drawn_by_the_version_whose_share_they_are(
    models: Path, fleet: Stack, api: httpx.Client, tmp_path: Path
) -> None:
    """As if they named it: the same bytes. Whoever asks for the price with the key hears of the same version."""
    current, other = (each.version for each in read_catalog(models).versions["tiny"])
    traffic("tiny", "tiny@next=30", "--models-dir", models)
    parts = read_catalog(models).parts_of("tiny")
    assert parts == pytest.approx({other: 0.3, current: 0.7})
    follows(api, [0.7, 0.3])

    def ask(number: int) -> tuple[str, str]:
        key, params = {"Idempotency-Key": f"request {number}"}, {"seed": number % 3, "steps": 2}
        price = api.post("/generate", params={**params, "dry_run": "true"}, headers=key).json()
        answer = api.post("/generate", params=params, headers=PNG | key)
        assert answer.status_code == 200, answer.text
        version = version_in(answer.content)
        assert price["version"] == version
        named = api.post("/generate", params={**params, "version": version[:12]}, headers=PNG)
        assert named.content == answer.content
        return answer.headers["X-Job-Id"], version

    with ThreadPoolExecutor(8) as pool:
        answers = dict(pool.map(ask, range(40)))
    for job_id, version in answers.items():
        assert version == drawn_by(job_id, "tiny", parts) == api.get(f"/jobs/{job_id}").json()["version"]
        assert fleet.manifest(job_id).job.version == version
    counts = Counter(answers.values())
    assert counts.keys() == {current, other}
    quality = {"rows": [{"figures": {"KID-Net": {"value": 0.0123}}, "images": 500, "reference": "faces64"}]}
    (models / "tiny@next/quality.json").write_text(json.dumps(quality))
    table = traffic("tiny", "--server", api.base_url, "--models-dir", models)
    for version, share in ((current, "70 %"), (other, "30 %")):
        jobs = 2 * counts[version]  # half of which named it
        *found, _median, _p95, quality_cell = row(table, version)
        assert found[2:] == [share, str(jobs), f"{100 * jobs / 80:.3g} %", "0"]
        assert quality_cell == ("KID 0.0123: 500 images, faces64" if version == other else "")
    assert len(re.findall(r"\d\.\d\d s", table)) == 4


def test_a_repeated_request_finds_its_job_though_the_shares_have_changed(
    models: Path, api: httpx.Client, tmp_path: Path
) -> None:
    """Even where the other version would fit its picture otherwise, and so take it for another request."""
    shutil.rmtree(models / "tiny@next")
    changed(models, "tiny", image_size=32)
    picture = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(picture, "PNG")

    def post(number: int) -> httpx.Response:
        headers = ASYNC | {"Idempotency-Key": f"picture {number}"}
        return api.post("/denoise?sigma=20", headers=headers, files={"image": picture.getvalue()})

    jobs: dict[int, dict[str, Any]] = {}
    for number, (share, expected) in enumerate([(100, [0, 1]), (None, [1, 0])]):
        traffic("tiny", "--back" if share is None else f"tiny@next={share}", "--models-dir", models)
        follows(api, expected)
        for key, before in jobs.items():
            again = post(key)
            assert (again.status_code, again.json()["id"]) == (202, before["id"]), again.text
            assert again.json()["version"] == before["version"]
        jobs[number] = post(number).json()
    current, other = (each.version for each in read_catalog(models).versions["tiny"])
    assert [jobs[number]["version"] for number in range(2)] == [other, current]


def test_no_request_fails_whatever_happens_to_the_shares(models: Path, fleet: Stack, api: httpx.Client) -> None:
    """A broken file, none, and a version that goes while it draws."""
    traffic("tiny", "tiny@next=50", "--models-dir", models)
    follows(api, [0.5, 0.5])
    stop, seeds = threading.Event(), itertools.count()

    def ask(_: int) -> list[tuple[int, str]]:
        found = []
        while not stop.is_set():
            answer = api.post("/generate", params={"seed": next(seeds), "steps": 2}, headers=PNG)
            found.append((answer.status_code, version_in(answer.content) if answer.is_success else answer.text))
        return found

    def listed(name: str) -> Callable[[], bool]:
        return lambda: name in {each["name"] for each in api.get("/models").json()["models"]}

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        try:
            (models / "tiny.toml").write_text("shares = { next = ten }")
            wait_until(listed("tiny.toml"), 30, "the front end tells that the file is broken")
            assert shares(api) == [1, 0]
            refused = next(each for each in api.get("/models").json()["models"] if each["name"] == "tiny.toml")
            assert "all requests get the current version" in refused["reason"]
            traffic("tiny", "tiny@next=100", "--models-dir", models)
            follows(api, [0, 1])
            (models / "tiny.toml").unlink()
            follows(api, [1, 0])
            traffic("tiny", "tiny@next=50", "--models-dir", models)
            follows(api, [0.5, 0.5])
            shutil.rmtree(models / "tiny@next")
            wait_until(lambda: shares(api)[:1] == [1], 30, "its share has gone to the current version")
        finally:
            stop.set()
    answers = [each for future in asking for each in future.result()]
    assert [each for each in answers if each[0] != 200] == []
    assert len({version for _, version in answers}) == 2


def test_shares_at_an_address_are_followed(
    redis_url: str, s3_url: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.setenv("DIFUSO_STATE_DIR", str(tmp_path / "command"))
    (models / "tiny@next/quality.json").write_text('{"rows": [{"figures": {}, "images": 7, "reference": "faces64"}]}')
    for name in ("tiny", "tiny@next"):
        push(models / name, Blobs(s3_url), name)
    settings = ApiSettings(
        redis_url=redis_url, models_dir=s3_url, store_url=str(tmp_path / "store"), state_dir=tmp_path / "front"
    )
    with running(settings) as api:
        other = read_catalog(models).versions["tiny"][1].version
        table = traffic("tiny", f"{other[:8]}=12.5", "--models-dir", s3_url)
        assert row(table, other) == [other[:12], "tiny@next", "12.5 %", ": 7 images, faces64"]
        follows(api, [0.875, 0.125])
        assert row(traffic("tiny", "--models-dir", s3_url), other)[2] == "12.5 %"
        traffic("tiny", "--back", "--models-dir", s3_url)
        follows(api, [1, 0])
        assert row(traffic("tiny", "--back", "--models-dir", s3_url), other)[2] == "0 %"


def test_mistakes_are_explained(models: Path, api: httpx.Client) -> None:
    current, other = (each.version for each in read_catalog(models).versions["tiny"])
    for words, message in (
        (["nope"], "nope is not among the models in .*: .*tiny"),
        (["tiny", "nope=10"], f"'nope' must name one version of tiny: {current[:12]} .tiny., {other[:12]} .tiny@next."),
        (["tiny", "=10"], "'' must name one version"),
        (["tiny", "10"], "'' must name one version"),
        (["tiny", f"{current[:8]}=10"], "the current version, which gets the rest of 100"),
        (["tiny", "tiny@next=ten"], "must be a number from 0 to 100, not 'ten'"),
        (["tiny", "tiny@next=101"], "must be a number from 0 to 100, not '101'"),
        (["tiny", "tiny@next=nan"], "must be a number from 0 to 100, not 'nan'"),
        (["tiny", "tiny@next=10", "--back"], "give shares or --back"),
        (["nope", "--server", api.base_url], "nope is not among the models of http://.*: tiny"),
        (["tiny", "--server", "http://127.0.0.1:9"], "no server answers"),
    ):
        with pytest.raises(UserError, match=message):
            traffic(*words, "--models-dir", models)
    shutil.copytree(models / "tiny@next", models / "tiny@third")
    changed(models, "tiny@third")
    (models / "tiny@third@next").rename(models / "tiny@fourth")
    with pytest.raises(UserError, match="at most 100 together, not 120"):
        traffic("tiny", "tiny@next=60", "tiny@fourth=60", "--models-dir", models)
    with pytest.raises(UserError, match=r"not among the models in .*nowhere: none"):
        traffic("tiny", "tiny@next=60", "--models-dir", models / "nowhere")
    assert not (models / "tiny.toml").exists()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_thousands_of_jobs_of_sixteen_clients_have_the_shares_and_go_back_at_once(
    redis_url: str, tmp_path: Path, quick: None
) -> None:
    """faces64-live and a predecessor: each picture is what its version draws, and none fails."""
    models, name, share, seeds = tmp_path / "models", "faces64-live", 20, 4
    jobs = 6400  # of which four standard errors are 2 %
    shutil.copytree(ROOT / "checkpoints" / name, models / name)
    changed(models, name)
    current, other = (each.version for each in read_catalog(models).versions[name])
    traffic(name, f"{name}@next={share}", "--models-dir", models)
    parts = read_catalog(models).parts_of(name)
    settings = ApiSettings(redis_url=redis_url, models_dir=models, store_url=str(tmp_path / "store"), max_jobs=100)
    with ExitStack() as stack:
        start_worker(stack.enter_context(closing(Stack(redis_url, models, tmp_path))))
        api = stack.enter_context(running(settings))

        def ask(number: int, **named: str) -> tuple[str, bytes]:
            params: dict[str, str | int] = {"seed": number % seeds, "plan": "live", **named}
            headers = PNG if named else PNG | {"Idempotency-Key": f"job {number}"}
            answer = api.post("/generate", params=params, headers=headers)
            assert answer.status_code == 200, answer.text
            return answer.headers["X-Job-Id"], answer.content

        drawn = {(each, seed): ask(seed, version=each)[1] for each in (current, other) for seed in range(seeds)}
        assert len({*drawn.values()}) == 2 * seeds
        with ThreadPoolExecutor(16) as pool:
            answers = [*pool.map(ask, range(jobs))]
            later = [pool.submit(ask, number) for number in range(jobs, jobs + 200)]
            traffic(name, "--back", "--models-dir", models)
            follows(api, [1, 0], name)
            last = [*pool.map(ask, range(jobs + 200, jobs + 300))]
        table = traffic(name, "--server", api.base_url, "--models-dir", models)
        assert [row(table, each)[5] for each in (current, other)] == ["0", "0"], "none has failed"
        versions = Counter(drawn_by(job_id, name, parts) for job_id, _ in answers)
        assert [png for _, png in answers] == [
            drawn[drawn_by(job_id, name, parts), number % seeds] for number, (job_id, _) in enumerate(answers)
        ]
        assert abs(versions[other] / jobs - share / 100) < 0.02
        assert {version_in(each.result()[1]) for each in later} <= {current, other}
        assert [png for _, png in last] == [drawn[current, number % seeds] for number in range(jobs + 200, jobs + 300)]
