"""Signed links to images: they work without a key, for one image, for its time, and only where there are keys."""

from __future__ import annotations

import hashlib
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from difuso.app.http.access import signed_path
from difuso.app.http.api_keys import ApiKey
from difuso.app.settings import ApiSettings
from tests.app_server import ALICE, BOB, OPERATOR, FakeWorker, keys_file, running

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def settings(settings: ApiSettings, folder: Path) -> ApiSettings:
    return settings.model_copy(update={"api_keys_file": keys_file(folder)})


@pytest.fixture
def job(api: httpx.Client, worker: FakeWorker) -> dict[str, Any]:
    """A job of alice with two images."""
    job_id = api.post("/generate?n=2", headers=ASYNC | ALICE).json()["id"]
    worker.succeed(job_id)
    shown: dict[str, Any] = api.get(f"/jobs/{job_id}", headers=ALICE).json()
    return shown


def key_of(name: str) -> ApiKey:
    return ApiKey(name=name, sha256=hashlib.sha256(f"{name}-key".encode()).hexdigest())


def test_a_signed_link_shows_its_image_to_everybody(api: httpx.Client, job: dict[str, Any]) -> None:
    assert len(job["links"]["signed"]) == 2
    for signed, path in zip(job["links"]["signed"], job["links"]["images"], strict=True):
        guarded = api.get(path, headers=ALICE)
        for headers in ({}, BOB, {"Authorization": "nonsense"}):
            answer = api.get(signed, headers=headers)
            assert (answer.status_code, answer.content) == (200, guarded.content)
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert guarded.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert guarded.headers["Vary"] == "Accept, Authorization"
        assert api.head(signed).status_code == 200
        assert api.get(signed, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_links_are_the_same_wherever_the_job_is_shown(api: httpx.Client, job: dict[str, Any]) -> None:
    """So the job's ETag does not change by them."""
    (listed,) = api.get("/jobs", headers=ALICE).json()["jobs"]
    again = api.get(job["links"]["self"], headers=ALICE)
    end = api.get(job["links"]["events"], headers=ALICE).text
    assert listed == again.json() == job
    assert job["links"]["signed"][0] in end
    headers = {**ALICE, "If-None-Match": again.headers["ETag"]}
    assert api.get(job["links"]["self"], headers=headers).status_code == 304


def test_a_link_is_for_one_image_and_one_time(api: httpx.Client, job: dict[str, Any]) -> None:
    signed, other = job["links"]["signed"]
    path, query = signed.split("?")
    expires, signature = (each.partition("=")[2] for each in query.split("&"))
    wrong = [
        f"{job['links']['images'][1]}?{query}",
        f"{path}0?{query}",
        f"/jobs/{job['id']}/images/00?{query}",
        f"{path}?expires={int(expires) + 1}&signature={signature}",
        f"{path}?expires={int(expires) - 1}&signature={signature}",
        f"{path}?expires=0{expires}&signature={signature}",
        f"{path}?signature={signature}",
        f"{path}?expires={expires}",
        f"{path}?expires={expires}&signature=",
        f"{path}?expires={expires}&signature={signature[:-1]}",
        f"{path}?expires={expires}&signature={signature}=",
        f"{path}?expires={expires}&signature={signature.swapcase()}",
        f"{path}?expires=x&signature={signature}",
        f"{path}?expires={'9' * 5000}&signature={signature}",
        f"{path}?expires={expires}&signature=%C3%A9%00",
        f"{path}?{other.partition('?')[2]}",
    ]
    for link in wrong:
        answer = api.get(link)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized"), link
    for path in ("", "/image", "/events"):
        assert api.get(f"/jobs/{job['id']}{path}?{query}").status_code == 401
    assert api.get(f"/jobs?{query}").status_code == 401
    assert api.delete(f"/jobs/{job['id']}?{query}").status_code == 401
    assert api.delete(f"/jobs/{job['id']}/images?{query}").status_code == 401


def test_no_host_makes_a_link_one_to_another_image(api: httpx.Client, job: dict[str, Any]) -> None:
    signed, other = job["links"]["signed"][0], job["links"]["images"][1]
    path, query = signed.split("?")
    for host in (f"x{path}?", f"x{path}#", f"x{path}?{query}&"):
        with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=5) as stranger:
            stranger.sendall(f"GET {other}?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert stranger.recv(65536).startswith((b"HTTP/1.1 401", b"HTTP/1.1 400"))


def test_a_link_ends_with_its_time(api: httpx.Client, job: dict[str, Any]) -> None:
    path = job["links"]["images"][0]
    for seconds, status in ((-1, 401), (100, 200)):
        assert api.get(signed_path(key_of("alice"), path, int(time.time()) + seconds)).status_code == status


def test_nobody_can_sign_for_the_jobs_of_others(api: httpx.Client, job: dict[str, Any]) -> None:
    answer = api.get(signed_path(key_of("bob"), job["links"]["images"][0], int(time.time()) + 100))
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/job-not-found")
    assert api.get(signed_path(key_of("carol"), job["links"]["images"][0], int(time.time()) + 100)).status_code == 401


def test_links_of_an_operator_show_the_jobs_of_others(api: httpx.Client, job: dict[str, Any]) -> None:
    shown = api.get(job["links"]["self"], headers=OPERATOR).json()["links"]["signed"]
    assert shown != job["links"]["signed"]
    for signed, by_owner in zip(shown, job["links"]["signed"], strict=True):
        answer = api.get(signed)
        assert (answer.status_code, answer.content) == (200, api.get(by_owner).content)
    assert api.get(job["links"]["self"], headers=ALICE).json()["links"]["signed"] == job["links"]["signed"]


def test_links_hold_elsewhere_and_end_with_their_key_and_their_images(
    api: httpx.Client, job: dict[str, Any], settings: ApiSettings, tmp_path: Path
) -> None:
    signed = job["links"]["signed"][0]
    file = tmp_path / "others"
    for keys, status in (
        (f"alice {key_of('alice').sha256}\nalice {key_of('new').sha256}\n", 200),
        (f"alice {key_of('new').sha256}\n", 401),
    ):
        file.write_text(keys)
        with running(settings.model_copy(update={"api_keys_file": file})) as other:
            assert other.get(signed).status_code == status
    api.delete(f"/jobs/{job['id']}/images", headers=ALICE)
    assert api.get(signed).status_code == 410
    assert set(api.get(job["links"]["self"], headers=ALICE).json()["links"]) == {"self", "events"}


def test_without_keys_there_is_nothing_to_sign(settings: ApiSettings, worker: FakeWorker) -> None:
    with running(settings.model_copy(update={"api_keys_file": None})) as api:
        job = api.post("/generate", headers=ASYNC).json()
        worker.succeed(job["id"])
        links = api.get(job["links"]["self"]).json()["links"]
        assert set(links) == {"self", "events", "image", "images"}
        plain = api.get(f"{links['images'][0]}?expires=1&signature=x")
        assert (plain.status_code, plain.headers["Cross-Origin-Resource-Policy"]) == (200, "same-origin")
