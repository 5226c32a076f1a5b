"""What the API refuses, and how it says so."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker
from tests.pictures import saved

ASYNC = {"Prefer": "respond-async"}
NO_JOB = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"max_jobs": 5})


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"/problems/{kind}"
    assert body["status"] == status
    assert body["instance"] == response.request.url.path
    assert body["request_id"] == response.headers["X-Request-Id"]
    return body


def test_each_wrong_parameter_is_named_and_its_value_is_not_repeated(api: httpx.Client) -> None:
    wrong = {
        "n": ["0", "65", "-1", "1e1", "true", "", "NaN"],
        "steps": ["0", "1001", "1000000000", "x"],
        "sampler": ["nosuch", "DDIM"],
        "spacing": ["none"],
        "eta": ["-0.1", "1.1", "nan", "inf"],
        "seed": ["1.5", "-1", str(2**53), str(2**64), "\u96f6", "7\x00"],
        "label": ["0", "cat"],
        "guidance_scale": ["2", "-1", "inf"],
        "plan": ["nope", "", "x" * 300],
        "model": ["nope", "../tiny", "%2e%2e", "TINY", "x" * 300, "tiny\x00"],
        "sampels": ["1"],
    }
    for name, values in wrong.items():
        for value in values:
            body = problem(api.post("/generate", params={name: value}, headers=ASYNC), 422, "invalid-request")
            assert [error["parameter"] for error in body["errors"]] == [name]
            if len(value) > 5:
                assert value not in body["detail"]


def test_a_parameter_given_twice_is_refused(api: httpx.Client) -> None:
    body = problem(api.post("/generate?steps=1&n=2&steps=2"), 422, "invalid-request")
    assert [error["parameter"] for error in body["errors"]] == ["steps"]


def test_several_seeds_are_one_image_each(api: httpx.Client) -> None:
    job = api.post("/generate?seed=3&seed=9&seed=4", headers=ASYNC).json()
    assert (job["params"]["n"], job["params"]["seed"]) == (3, [3, 9, 4])
    assert api.get(job["links"]["self"]).json()["params"] == job["params"]
    one = api.post("/generate?seed=3", headers=ASYNC).json()
    assert (one["params"]["n"], one["params"]["seed"]) == (1, 3)
    for query, name in (
        ("seed=3&seed=9&n=3", "n"),
        ("seed=3&seed=x", "seed"),
        ("seed=3&seed=", "seed"),
    ):
        body = problem(api.post(f"/generate?{query}"), 422, "invalid-request")
        assert [error["parameter"] for error in body["errors"]] == [name]


def test_several_mistakes_are_named_together(api: httpx.Client) -> None:
    body = problem(api.post("/generate?n=0&steps=x&sede=1"), 422, "invalid-request")
    assert {error["parameter"] for error in body["errors"]} == {"n", "steps", "sede"}


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tkey"])
def test_an_unusable_idempotency_key_is_named(api: httpx.Client, key: str) -> None:
    body = problem(api.post("/generate", headers={"Idempotency-Key": key}), 422, "invalid-request")
    assert body["errors"][0]["header"].lower() == "idempotency-key"


def test_two_idempotency_keys_are_none(api: httpx.Client) -> None:
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    body = problem(api.post("/generate", headers=twice), 422, "invalid-request")
    assert body["errors"][0]["header"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"seed": [1] * 1_000_000}, "The body should have at most 100000 values: send sequences as .npy"),
        ({"a": [{}] * 100_000}, "The body should have at most 100000 values: send sequences as .npy"),
        ({str(name): 0 for name in range(90_000)}, "The body should have at most 4096 parameters"),
    ],
)
def test_a_body_of_more_values_than_any_request_has_is_refused_in_a_line(
    api: httpx.Client, body: dict[str, Any], detail: str
) -> None:
    answer = api.post("/generate", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"detail": detail, "pointer": ""}]


def test_a_body_that_is_not_json_is_refused(api: httpx.Client) -> None:
    for content in (bytes(100_000), iter([bytes(50_000)] * 2)):
        found = problem(api.post("/generate", content=content), 422, "invalid-request")
        assert found["errors"] == [
            {"detail": "The body should be empty, multipart/form-data or application/json", "pointer": ""}
        ]


def test_no_error_is_anything_but_a_problem(api: httpx.Client) -> None:
    problem(api.post("/generate", headers={"Accept": "text/html"}), 406, "not-acceptable")
    assert problem(api.put("/generate"), 405, "method-not-allowed")
    for path in ("/nothing", "/static/nothing.js", "/models/nothing", "/redoc", "/jobs//metrics"):
        problem(api.get(path), 404, "not-found")
    for job_id in (NO_JOB, "nonsense", NO_JOB.upper() + "0", "%2e%2e"):
        for path in ("", "/events", "/image", "/images/0"):
            response = api.get(f"/jobs/{job_id}{path}")
            assert response.status_code == 404
            assert response.headers["Content-Type"] == "application/problem+json"
        assert api.delete(f"/jobs/{job_id}").status_code == 404


def test_the_same_key_and_request_fifty_times_at_once_is_one_job(new_api: httpx.Client) -> None:
    def post(_: int) -> httpx.Response:
        return new_api.post("/generate?n=2", headers={**ASYNC, "Idempotency-Key": "once"})

    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(post, range(50)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.headers["Location"] for response in responses}) == 1
    assert len({response.json()["params"]["seed"] for response in responses}) == 1
    assert 'difuso_jobs_accepted_total{kind="generate",model="tiny"} 1.0' in new_api.get("/metrics").text


def test_one_key_for_two_pictures_at_once_is_one_job_that_keeps_its_own(
    api: httpx.Client, settings: ApiSettings
) -> None:
    colours = [saved(Image.new("RGB", (16, 16), colour), "PNG") for colour in ("red", "blue")]
    with ThreadPoolExecutor(2) as pool:
        # Without a worker the queue ends at five jobs, and then whoever is second finds it full.
        for number in range(4):
            headers = {**ASYNC, "Idempotency-Key": f"round {number}"}
            post = partial(api.post, "/denoise?sigma=20", headers=headers)
            answers = list(pool.map(lambda png, post=post: post(files={"image": png}), colours))
            assert sorted(answer.status_code for answer in answers) == [202, 422]
            job = min(answers, key=lambda answer: answer.status_code).json()
            folder = Path(settings.store_url) / "uploads" / job["id"][:2] / job["id"]
            stored = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
            assert job["pictures"][0]["sha256"] in stored


def test_the_queue_has_an_end_even_without_a_worker_but_a_repeated_request_is_let_in(api: httpx.Client) -> None:
    for index in range(5):
        headers = {**ASYNC, "Idempotency-Key": f"key {index}"}
        assert api.post("/generate", headers=headers).status_code == 202
    response = api.post("/generate", headers=ASYNC)
    problem(response, 429, "overloaded")
    assert int(response.headers["Retry-After"]) > 0
    assert api.post("/generate", headers={**ASYNC, "Idempotency-Key": "key 0"}).status_code == 202


def test_a_model_that_every_worker_refuses_is_unavailable_with_the_reason(
    api: httpx.Client, worker: FakeWorker
) -> None:
    worker.report(ready=False, reason="weights contain NaN")
    assert "weights contain NaN" in problem(api.post("/generate"), 503, "model-unavailable")["detail"]
    assert api.get("/models/tiny").json()["reason"] == "weights contain NaN"


def test_models_show_facts_of_the_checkpoint_and_what_workers_say(api: httpx.Client, worker: FakeWorker) -> None:
    before = api.get("/models").json()
    assert before["default"] == "tiny"
    assert before["models"][0]["state"] == "unknown"
    assert before["models"][0]["precision"] == "float32", "what the model says"
    worker.report(ready=True, rate=10.0, precision="bfloat16", name="a")
    worker.report(ready=True, rate=5.0, precision="bfloat16", name="b")
    model = api.get("/models/tiny").json()
    assert model["precision"] == "bfloat16"
    assert (model["state"], model["rate"], model["workers"]) == ("ready", 15.0, 2)
    assert (model["image_size"], model["num_train_timesteps"]) == (16, 1000)


def test_pages_that_are_known_are_not_sent_again(api: httpx.Client) -> None:
    for path in ("/", "/docs", "/static/page.js"):
        known = {"If-None-Match": api.get(path).headers["ETag"]}
        again = api.get(path, headers=known)
        assert (again.status_code, again.content, again.headers["Cache-Control"]) == (304, b"", "no-cache"), path
