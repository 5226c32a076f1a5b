"""API keys that come, go and change while front ends run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from difuso.app import main
from difuso.app.settings import ApiSettings
from tests.app_server import ALICE, BOB, OPERATOR, FakeWorker, key_line, keys_file, running
from tests.waiting import wait_until

ASYNC = {"Prefer": "respond-async"}
CAROL = {"Authorization": "Bearer carol-key"}
SECONDS = 15  # in which front ends surely notice


@pytest.fixture
def settings(settings: ApiSettings, tmp_path: Path) -> ApiSettings:
    return settings.model_copy(update={"api_keys_file": keys_file(tmp_path)})


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Front ends look at the file more often than once a second."""
    monkeypatch.setattr(main, "KEYS_LOOK_SECONDS", 0.05)


@pytest.fixture
def file(settings: ApiSettings) -> Path:
    assert settings.api_keys_file is not None
    return settings.api_keys_file


@pytest.fixture
def apis(settings: ApiSettings) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two front ends with one Redis and one file of keys."""
    with running(settings) as one, running(settings) as other:
        yield one, other


@pytest.fixture
def api(apis: tuple[httpx.Client, httpx.Client]) -> httpx.Client:
    return apis[0]


def status(api: httpx.Client, who: dict[str, str]) -> int:
    return api.get("/jobs", headers=who).status_code


def test_a_key_comes_and_another_goes_at_all_front_ends(
    apis: tuple[httpx.Client, httpx.Client], file: Path, worker: FakeWorker
) -> None:
    job = apis[0].post("/generate", headers=ASYNC | ALICE).json()
    worker.succeed(job["id"])
    signed = apis[1].get(job["links"]["self"], headers=ALICE).json()["links"]["signed"][0]
    assert [apis[0].get(signed).status_code, *(status(api, CAROL) for api in apis)] == [200, 401, 401]
    file.write_text("\n".join(map(key_line, ("bob", "carol"))))
    wait_until(lambda: all(status(api, CAROL) == 200 for api in apis), SECONDS, "a new key is known")
    wait_until(lambda: all(status(api, ALICE) == 401 for api in apis), SECONDS, "a withdrawn key is unknown")
    for api in apis:
        assert api.post("/generate", headers=ASYNC | ALICE).status_code == 401
        assert api.post("/generate", headers=ASYNC | ALICE, json={"n": 1}).status_code == 401
        assert api.get(signed).status_code == 401
        assert [status(api, who) for who in (BOB, OPERATOR, {})] == [200, 401, 401]


def test_limits_and_roles_change_with_the_file(apis: tuple[httpx.Client, httpx.Client], file: Path) -> None:
    for api in apis:
        assert "RateLimit" not in api.post("/generate?steps=10", headers=ASYNC | BOB).headers
    bob, oscar = key_line("bob"), key_line("oscar")
    file.write_text(f"{bob} unfinished=50 role=operator\n{oscar}\n")

    def policies() -> set[str | None]:
        asked = [api.post("/generate?steps=10&dry_run=true", headers=BOB) for api in apis]
        return {answer.headers.get("RateLimit-Policy") for answer in asked}

    wait_until(lambda: policies() == {'"unfinished";q=50;qu="image-steps"'}, SECONDS, "the limit holds")
    for api in apis:
        assert api.post("/generate?steps=60", headers=ASYNC | BOB).status_code == 422
        assert len(api.get("/jobs", headers=BOB).json()["jobs"]) == 2
        assert api.get("/jobs", headers=OPERATOR).json() == {"jobs": []}
        assert api.get("/jobs?owner=bob", headers=BOB).status_code == 200


def test_whoever_waits_with_a_withdrawn_key_waits_no_longer(api: httpx.Client, file: Path, worker: FakeWorker) -> None:
    """The job goes on: it was accepted, and its owner may have another key."""
    job = api.post("/generate", headers=ASYNC | ALICE).json()
    with ThreadPoolExecutor(4) as pool:
        posted = pool.submit(api.post, "/generate", headers=ALICE)
        polled = pool.submit(api.get, job["links"]["self"], headers=ALICE | {"Prefer": "wait=60"})
        followed = pool.submit(api.get, job["links"]["events"], headers=ALICE)
        bobs = pool.submit(api.post, "/generate", headers=BOB)

        def awaited() -> int:
            jobs = api.get("/jobs", headers=OPERATOR).json()["jobs"]
            return sum(worker.is_awaited(each["id"]) for each in jobs)

        wait_until(lambda: awaited() == 3, SECONDS, "all wait")
        file.write_text("\n".join([key_line("bob"), f"{key_line('oscar')} role=operator", key_line("carol")]))
        for answer in (posted.result(SECONDS), polled.result(SECONDS)):
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="difuso"'
        events = followed.result(SECONDS).text
        assert "event: progress" in events
        assert "event: succeeded" not in events
        assert not bobs.done()
        for each in api.get("/jobs", headers=OPERATOR).json()["jobs"]:
            assert each["state"] == "queued"
            worker.succeed(each["id"])
        assert bobs.result(SECONDS).status_code == 200


def test_a_server_with_keys_is_never_open(api: httpx.Client, file: Path) -> None:
    def is_current() -> bool:
        return "difuso_api_keys_ok 1.0" in api.get("/metrics", headers=ALICE).text

    assert is_current()
    file.unlink()
    wait_until(lambda: not is_current(), SECONDS, "the metric shows the missing file")
    assert [status(api, who) for who in (ALICE, BOB, CAROL, {})] == [200, 200, 401, 401]
    assert api.get("/readyz").json() == {"status": "ok"}
    keys_file(file.parent)
    wait_until(is_current, SECONDS, "the metric shows the file")
