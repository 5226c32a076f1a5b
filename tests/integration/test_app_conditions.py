"""Conditions over HTTP, as a query with parts and as JSON: the jobs that they make, and how wrong ones are refused."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from difuso.app.settings import ApiSettings
from difuso.model.checkpoint import save_checkpoint
from difuso.model.conditions import Choice, VectorSequence
from difuso.model.networks.configs import UNetConfig
from tests.pictures import saved
from tests.small_models import NETWORK, checkpoint_of, conditional_checkpoint
from tests.strangers import on_the_path, save_model, write_package

ASYNC = {"Prefer": "respond-async"}
LAYOUT = saved(Image.fromarray((np.arange(64).reshape(8, 8) % 2).astype(np.uint8)), "PNG")
SKETCH = saved(Image.linear_gradient("L").resize((4, 4)), "PNG")
STYLE = "style:0.5,-1"
PARTS = {"layout": LAYOUT, "sketch": SKETCH}


@pytest.fixture(scope="module")
def conditional_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    twins = checkpoint_of(UNetConfig(num_classes=2, **NETWORK), classes=("x", "x"))
    conditions = {"glasses": Choice(("none", "round"), null=True), "beard": Choice(("none", "full"), null=True)}
    examples = {"glasses": ("none", "round"), "beard": ("full", "none")}
    never = ({"glasses": ("round",), "beard": ("full",)},)
    network = UNetConfig(vector_size=6, **NETWORK)
    plain = checkpoint_of(network, conditions=conditions, examples=examples, never=never)
    for name, model in {"conditional": conditional_checkpoint(), "plain": plain, "twins": twins}.items():
        save_checkpoint(folder / name, model.config, model.network)
    with on_the_path(write_package(tmp_path_factory.mktemp("lab"))):
        for name, null in (("reader", False), ("maybe", True)):
            save_model(folder / name, "Attentive", conditions={"text": VectorSequence(3, 4, null=null)})
    return folder


@pytest.fixture
def settings(redis_url: str, conditional_models: Path, folder: Path) -> ApiSettings:
    return ApiSettings(
        redis_url=redis_url,
        models_dir=conditional_models,
        store_url=str(folder / "store"),
        max_jobs=100_000,
        max_upload=100_000,
    )


def in_base64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def generate(api: httpx.Client, *asked: str, files: Any = None, **query: Any) -> httpx.Response:
    parts = {"layout": LAYOUT} if files is None else files
    return api.post("/generate", params={"condition": [STYLE, *asked], **query}, files=parts, headers=ASYNC)


def refusal(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    return dict(error)


def test_a_model_shows_all_its_conditions(api: httpx.Client) -> None:
    shown = api.get("/models/conditional").json()["conditions"]
    assert shown == {
        "label": {"type": "choice", "null": True, "values": ["circle", "square", "star"]},
        "age": {"type": "number", "null": True, "low": 0.0, "high": 100.0, "unit": "years"},
        "glasses": {"type": "choice", "null": True, "values": ["none", "round"]},
        "style": {"type": "vector", "null": False, "size": 2},
        "layout": {"type": "map", "null": False, "values": ["sky", "road"]},
        "sketch": {"type": "image", "null": True, "channels": 1, "size": 4},
    }


def test_classes_of_one_name_are_listed_and_asked_by_index(api: httpx.Client) -> None:
    listed = {model["name"]: model for model in api.get("/models").json()["models"]}
    assert listed["twins"]["classes"] == ["x", "x"]
    assert listed["twins"]["conditions"]["label"]["values"] == ["x", "1"]
    for label, index in {"x": 0, "0": 0, "1": 1}.items():
        answer = api.post("/generate", params={"model": "twins", "label": label}, headers=ASYNC)
        assert answer.status_code == 202, answer.text
        assert answer.json()["params"]["label"] == index


def test_a_job_holds_its_conditions(api: httpx.Client) -> None:
    params = generate(api, "age:33", "glasses:none", "glasses:round", label="star", seed=7).json()["params"]
    assert params["n"] == 2
    assert params["conditions"] | {"layout": None} == {
        "style": [[0.5, -1.0]],
        "age": [33.0],
        "glasses": ["none", "round"],
        "layout": None,
    }
    assert "guide" not in params


def test_what_was_never_seen_together_is_shown_and_warned_of(api: httpx.Client) -> None:
    assert api.get("/models/plain").json()["never"] == [{"glasses": ["round"], "beard": ["full"]}]
    assert "never" not in api.get("/models/conditional").json()
    asked: dict[str, Any] = {"model": "plain", "condition": ["glasses:round", "beard:full"]}
    said = "plain has never seen glasses round with beard full: the images may show something else"
    job = api.post("/generate", params=asked, headers=ASYNC).json()
    price = api.post("/generate", params=asked | {"dry_run": True}).json()
    for answer in (job, api.get(f"/jobs/{job['id']}").json(), price):
        assert answer["warnings"] == [{"code": "never-seen-together", "detail": said}]
    seen = api.post("/generate", params=asked | {"condition": "glasses:round"}, headers=ASYNC).json()
    assert seen["params"]["conditions"]["beard"] == ["none"]
    assert "warnings" not in seen


def test_an_image_of_a_condition_is_a_part_or_in_a_json_body(api: httpx.Client) -> None:
    """Beside the parts of a form, one in the query would be taken in their place, and they would be dropped."""
    sketch = f"sketch:{in_base64(SKETCH)}"
    for files in (PARTS, {"layout": LAYOUT}):
        error = refusal(generate(api, sketch, files=files))
        assert error["parameter"] == "condition"
        assert error["detail"] == "sketch: Input should be one file, in a form or in a JSON body"
    asked = {"style": [0.5, -1], "layout": in_base64(LAYOUT)}
    query = {"condition": sketch}
    assert api.post("/generate", params=query, json={"conditions": asked}, headers=ASYNC).status_code == 202
    twice = {"conditions": asked | {"sketch": in_base64(SKETCH + bytes(300))}}
    assert refusal(api.post("/generate", params=query, json=twice, headers=ASYNC))["parameter"] == "condition"


def test_an_image_for_a_model_without_images_is_refused(api: httpx.Client) -> None:
    body = {"model": "plain", "conditions": {"sketch": in_base64(SKETCH + bytes(300))}}
    error = refusal(api.post("/generate", json=body))
    assert error == {"parameter": "condition", "detail": "sketch: Input should be one of glasses, beard"}


def test_a_price_and_an_idempotency_key_work_with_json(api: httpx.Client) -> None:
    body = {"conditions": {"style": [0, 0], "layout": in_base64(LAYOUT)}, "dry_run": True}
    assert api.post("/generate", json=body).json()["images"] == 1
    key = {"Idempotency-Key": '"sent-twice"', **ASYNC}
    del body["dry_run"]
    first, second = (api.post("/generate", json=body, headers=key).json()["id"] for _ in range(2))
    assert first == second
    query, parts = {"condition": "style:0,0.0"}, {"layout": LAYOUT}
    assert api.post("/generate", params=query, files=parts, headers=key).json()["id"] == first
    other = api.post("/generate", json=body | {"seed": 4}, headers=key)
    assert other.status_code == 422


TEXT = [[0.5, -1.0, 0.0], [2.0, 0.25, 1.0]]


def npy(array: Any, dtype: Any = np.float32) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(array, dtype))
    return file.getvalue()


def read(api: httpx.Client, text: Any, **query: Any) -> httpx.Response:
    """Asks for an image of a sequence: as a part if it is bytes, else in JSON."""
    headers = ASYNC | {name: query.pop(name) for name in ["Idempotency-Key"] if name in query}
    params = {"model": "reader", **query}
    body: dict[str, Any] = (
        {"files": {"text": text}} if isinstance(text, bytes) else {"json": {"conditions": {"text": text}}}
    )
    return api.post("/generate", params=params, headers=headers, **body)


def test_a_sequence_is_the_same_as_lists_as_a_part_and_in_base64(api: httpx.Client, folder: Path) -> None:
    """It is stored once, by its content, whatever its type was; another one is another request."""
    shown = {"type": "sequence", "null": False, "width": 3, "most": 4}
    assert api.get("/models/reader").json()["conditions"]["text"] == shown
    key = {"Idempotency-Key": '"read-once"', "seed": 3}
    forms = [TEXT, npy(TEXT), npy(TEXT, np.float16), in_base64(npy(TEXT, np.float64))]
    answers = [read(api, each, **key) for each in forms]
    assert {each.status_code for each in answers} == {202}, answers[0].text
    assert len({each.json()["id"] for each in answers}) == 1
    ((sha256,),) = answers[0].json()["params"]["conditions"].values()
    (file,) = (folder / "store" / "uploads").rglob(sha256)
    assert sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert np.load(file).tolist() == TEXT
    assert read(api, TEXT[:1], **key).status_code == 422
    priced = read(api, TEXT[:1], seed=3, dry_run=True).json()
    assert priced["params"]["conditions"]["text"] != [sha256]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ([[1, 2]], "1 to 4 vectors of 3 numbers"),
        (TEXT * 3, "and its shape is (6, 3)"),
        ([], "and its shape is (0,)"),
        ([[1, 2, None]], "1 to 4 vectors of 3 numbers"),
        ([[1, 2, 3], [4]], "Input should be lists of equally many numbers"),
        ([["a", 2, 3]], "Input should be lists of equally many numbers"),
        (npy([[1, 2, np.nan]]), "1 to 4 vectors of 3 numbers"),
        (npy([[1, 2, 3]], np.int64), "float16, float32 or float64, not int64"),
        (LAYOUT, "The file should be an array as .npy"),
        ("text!", "Input should be a file in base64"),
        ("", "The part is missing"),
    ],
    ids=str,
)
def test_a_wrong_sequence_is_refused_by_name(api: httpx.Client, text: Any, detail: str) -> None:
    error = refusal(read(api, text))
    assert error["part"] == "text"
    assert detail in error["detail"]


def test_guidance_may_leave_a_sequence_out(api: httpx.Client) -> None:
    assert refusal(read(api, TEXT, guidance_scale=2))["parameter"] == "guidance_scale"
    assert read(api, TEXT, guidance_scale=2, model="maybe").status_code == 202
    error = refusal(api.post("/generate", params={"model": "maybe", "guidance_scale": 2}))
    assert error["detail"] == "This needs a condition text"


def test_what_is_filled_in_does_not_make_a_repeated_request_another(api: httpx.Client) -> None:
    """Without a seed each try draws another one, which deals other values; the values that were sent still count."""
    query: dict[str, Any] = {"model": "plain", "n": 16}
    key = {"Idempotency-Key": "filled-in-twice", **ASYNC}
    jobs = [api.post("/generate", params=query, headers=key).json() for _ in range(3)]
    assert len({job["id"] for job in jobs}) == 1
    assert set(jobs[0]["params"]["conditions"]["glasses"]) == {"none", "round"}
    asked = api.post("/generate", params=query | {"condition": "glasses:none"}, headers=key)
    assert asked.status_code == 422


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        ("age:101", "age: Input should be a number from 0 to 100 years"),
        ("age:nan", "age: Input should be a number from 0 to 100 years"),
        ("age:", "age: Input should be a number from 0 to 100 years"),
        ("age:[20,true]", "age: Input should be a number from 0 to 100 years"),
        ("age:[]", "age: Input should be one, or one for each of 1 to 64 images"),
        ("glasses:oval", "glasses: Input should be one of none, round"),
        ("glasses:[1]", "glasses: Input should be one of none, round"),
        ("style:1", "style: Input should be a list of 2 numbers from -1e+06 to 1e+06"),
        ("style:[[1,2],[3]]", "style: Input should be a list of 2 numbers from -1e+06 to 1e+06"),
        ("hat:red", "hat: Input should be one of age, glasses, style, layout, sketch"),
        ("label:star", "label: Input should be one of age, glasses, style, layout, sketch"),
        ("age", "Input should be NAME:VALUE, such as age:33"),
    ],
)
def test_a_wrong_condition_is_refused_by_name_with_what_it_may_be(api: httpx.Client, asked: str, detail: str) -> None:
    assert refusal(generate(api, asked)) == {"parameter": "condition", "detail": detail}


def test_numbers_of_images_must_agree(api: httpx.Client) -> None:
    error = refusal(generate(api, "age:[1,2,3]", seed=[1, 2]))
    assert error == {"parameter": "condition", "detail": "age: Input should be one, or one for each of the 2 images"}


def test_a_condition_that_the_model_needs_is_named(api: httpx.Client) -> None:
    answer = api.post("/generate", files={"layout": LAYOUT}, headers=ASYNC)
    assert refusal(answer)["detail"] == "style: conditional needs this: a list of 2 numbers from -1e+06 to 1e+06"
    assert refusal(api.post("/generate", params={"condition": STYLE}))["part"] == "layout"


@pytest.mark.parametrize(
    ("parts", "part", "detail"),
    [
        (
            {"layout": saved(Image.new("L", (8, 8), 2), "PNG")},
            "layout",
            "a grey image whose pixels are the indices of 0 sky",
        ),
        ({"layout": saved(Image.new("RGB", (8, 8), "red"), "PNG")}, "layout", "The image should be a grey image"),
        ({"layout": b"no image"}, "layout", ""),
        ({"layout": LAYOUT, "hat": LAYOUT}, "hat", "The part is unknown; send only noise, layout, sketch"),
    ],
)
def test_a_wrong_image_of_a_condition_is_refused_by_name(
    api: httpx.Client, parts: dict[str, bytes], part: str, detail: str
) -> None:
    answer = generate(api, files=parts)
    assert answer.status_code in (415, 422)
    (error,) = answer.json()["errors"]
    assert error["part"] == part
    assert detail in error["detail"]


def test_guidance_needs_something_that_may_be_left_out(api: httpx.Client) -> None:
    error = refusal(generate(api, guidance_scale=2))
    assert error["parameter"] == "guidance_scale"
    assert error["detail"] == "This needs a label or a condition age or a condition glasses or a condition sketch"
    assert generate(api, files=PARTS, guidance_scale=2).status_code == 202
    assert refusal(generate(api, guidance_scale=2, guide="style"))["detail"].startswith("Input should be one of sketch")
    assert generate(api, "age:3", guidance_scale=2, guide="age").json()["params"]["guide"] == ["age"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [(b"[]", ""), (b"{", ""), (b'{"n": 1, "n": 2}', ""), (b'{"n": {}}', "/n"), (b'{"conditions": 3}', "/conditions")],
)
def test_json_that_is_not_a_request_is_refused(api: httpx.Client, body: bytes, pointer: str) -> None:
    answer = api.post("/generate", content=body, headers={"Content-Type": "application/json"})
    assert refusal(answer)["pointer"] == pointer


def test_openapi_describes_both_bodies(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    body = paths["/restore"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["image", "task"]
    assert body["properties"]["conditions"]["examples"]
    assert not paths["/generate"]["post"]["requestBody"]["required"]


def test_a_parameter_in_json_is_bounded(api: httpx.Client) -> None:
    """Though a number may have millions of digits, and a seed millions of blanks."""
    for name, value in {"eta": f"0.{'1' * 4096}", "seed": [f"{' ' * 4096}7"], "label": "x" * 5000}.items():
        answer = api.post("/generate", json={"conditions": {"style": "0.5,-1"}, name: value}, headers=ASYNC)
        assert refusal(answer) == {"pointer": f"/{name}", "detail": "Input should have at most 4096 characters"}
    spaced = f"0.5,{' ' * 9000}-1"
    answer = api.post("/generate", json={"conditions": {"style": spaced, "layout": in_base64(LAYOUT)}}, headers=ASYNC)
    assert answer.json()["params"]["conditions"]["style"] == [[0.5, -1.0]]
