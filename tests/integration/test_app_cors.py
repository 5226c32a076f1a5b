"""Pages of other origins that the operator allows: what their browser sends, and what it lets them see."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from pydantic import ValidationError

from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker

PAGE, OTHER = "https://page.example", "https://evil.example"
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def settings(redis_url: str, models_dir: Path, folder: Path) -> ApiSettings:
    return ApiSettings.model_validate(
        {
            "redis_url": redis_url,
            "models_dir": models_dir,
            "store_url": str(folder / "store"),
            "cors_origins": f"{PAGE}, http://localhost:5173",
        }
    )


def of(origin: str) -> dict[str, str]:
    """The headers by which a browser says whose page asks."""
    return {"Origin": origin, "Sec-Fetch-Site": "cross-site"}


def shared(answer: httpx.Response) -> str | None:
    """The origin whose pages may read the answer."""
    origin: str | None = answer.headers.get("Access-Control-Allow-Origin")
    return origin


def test_a_page_of_an_allowed_origin_may_do_all_and_read_all(api: httpx.Client, worker: FakeWorker) -> None:
    job = api.post("/generate", headers=ASYNC | of(PAGE))
    assert (job.status_code, shared(job)) == (202, PAGE)
    path = job.headers["Location"]
    worker.succeed(path.removeprefix("/jobs/"))
    for answer in (
        api.get(path, headers=of(PAGE)),
        api.get(f"{path}/images/0", headers=of(PAGE)),
        api.get(f"{path}/events", headers=of(PAGE)),
        api.head("/jobs", headers=of(PAGE)),
        api.get("/nothing", headers=of(PAGE)),
        api.post("/generate?n=0", headers=of(PAGE)),
        api.delete(path, headers=of(PAGE)),
    ):
        assert shared(answer) == PAGE
        assert "Origin" in answer.headers["Vary"]
        assert "X-Job-Id" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_page_can_read_of_an_unexpected_error(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its problem names the request, for the operator's log."""
    monkeypatch.setattr("difuso.app.routers.health.generate_latest", Mock(side_effect=RuntimeError("unexpected")))
    answer = api.get("/metrics", headers=of(PAGE))
    assert (answer.status_code, answer.json()["type"], shared(answer)) == (500, "/problems/internal", PAGE)
    assert answer.headers["X-Request-Id"] in answer.text
    assert "unexpected" not in answer.text


def test_what_pages_can_be_shown_is_what_answers_have(api: httpx.Client, worker: FakeWorker) -> None:
    """A header that is added to the API is to be named to browsers, too."""
    safe = {"cache-control", "content-language", "content-length", "content-type", "expires", "pragma"}
    hidden = {"connection", "content-disposition", "content-encoding", "date", "server", "transfer-encoding", "vary"}
    hidden |= {"x-accel-buffering"}
    job = api.post("/generate?n=2", headers=ASYNC | of(PAGE))
    worker.succeed(job.json()["id"])
    path = job.headers["Location"]
    paths = (path, f"{path}/image", f"{path}/images/0", f"{path}/events", "/jobs?limit=1", "/models")
    api.post("/generate", headers=ASYNC)
    for answer in (job, *(api.get(each, headers={**of(PAGE), "Prefer": "wait=1"}) for each in paths)):
        named = {name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        security = {name for name in answer.headers if name.startswith(("access-control-", "cross-origin-", "x-frame"))}
        security |= {"x-content-type-options", "content-security-policy", "permissions-policy", "referrer-policy"}
        assert set(answer.headers) - safe - hidden - security <= named


def test_a_browser_that_asks_before_learns_what_is_allowed(api: httpx.Client) -> None:
    def ask(origin: str, method: str, headers: str) -> httpx.Response:
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
        return api.options("/generate", headers=of(origin) | asked)

    answer = ask(PAGE, "POST", "authorization,idempotency-key,prefer,priority")
    assert (answer.status_code, shared(answer)) == (200, PAGE)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert ask(PAGE, "DELETE", "if-none-match,last-event-id").status_code == 200
    assert ask(PAGE, "PUT", "authorization").status_code == 400
    for origin in (OTHER, "null", f"{PAGE}:8443", "http://page.example"):
        refused = ask(origin, "POST", "authorization")
        assert (refused.status_code, shared(refused)) == (400, None)


def test_all_other_origins_are_kept_out(api: httpx.Client, worker: FakeWorker) -> None:
    for origin in (OTHER, "null", "https://page.example.evil.example", PAGE.upper()):
        answer = api.post("/generate", headers=ASYNC | of(origin))
        assert (answer.status_code, answer.json()["type"], shared(answer)) == (403, "/problems/cross-origin", None)
        assert shared(api.get("/models", headers=of(origin))) is None
    assert worker.client.llen(worker.queue_key) == 0


@pytest.mark.parametrize(
    "origin", ["*", "null", "page.example", "https://page.example/", "https://*.example", "ftp://x"]
)
def test_only_origins_are_origins(origin: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        ApiSettings.model_validate({"cors_origins": origin})
