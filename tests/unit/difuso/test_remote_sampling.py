"""What is sent to a server that draws, and what becomes of its images."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from difuso.client import Client
from difuso.drawing.remote_drawing import ServedJob, ServedView, arguments, chosen_model
from difuso.drawing.sampling import Request, write_images
from difuso.errors import UserError
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.params import SamplingParams
from difuso.jobs.queries import SamplingQuery

ID = "5f0c0000-0000-0000-0000-000000000000"
SKETCH = {"type": "image", "null": True, "channels": 1, "size": 4}
PARAMS = {"n": 1, "steps": 1, "sampler": "ddim", "spacing": "leading", "eta": 0, "seed": 7}
STYLE = {"type": "vector", "null": True, "size": 2}
MODELS = {
    "default": "vectors",
    "models": [
        {"name": "images", "conditions": {"style": SKETCH}},
        {"name": "up", "conditions": {"image": SKETCH, "style": SKETCH}, "condition": {"size": 8}},
        {"name": "vectors", "conditions": {"style": STYLE}},
    ],
}


def conditions(*given: str, kind: str = "generate", model: str | None = None) -> Any:
    with Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=MODELS))) as client:
        query = KINDS[kind].query.model_validate({"condition": list(given), "model": model})
        assert isinstance(query, SamplingQuery)
        request = Request(KINDS[kind], query)
        return arguments(request, chosen_model(client, request))["conditions"]


def test_a_value_is_a_file_if_it_is_an_image_to_the_model_that_draws() -> None:
    assert conditions("style:0.5,1") == {"style": "0.5,1"}
    assert conditions("style:x.png", model="images") == {"style": Path("x.png")}
    assert conditions("style:x.png", kind="upscale") == {"style": Path("x.png")}
    assert conditions("style:[0.5,1]", "style:[2,3]") == {"style": [[0.5, 1], [2, 3]]}


def test_other_images_of_a_name_are_not_overwritten(tmp_path: Path) -> None:
    params = SamplingParams(n=2, steps=1, sampler="ddim", spacing="leading", eta=0, seed=7)

    def write(*pngs: bytes) -> list[str]:
        pixels = np.zeros((2, 8, 8, 3), np.uint8)
        return [
            path.name for path in write_images(tmp_path, pngs, pixels, {}, model="m", task=Generation(), params=params)
        ]

    assert write(b"a", b"b") == write(b"a", b"b") == ["m-7.png", "m-8.png"]
    assert write(b"a", b"c") == write(b"a", b"c") == ["m-7.png", "m-8-2.png"]
    assert write(b"d", b"d") == ["m-7-2.png", "m-8-3.png"]
    assert (tmp_path / "m-8.png").read_bytes() == b"b"


def test_an_image_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="style: Input should be one image for all"):
        conditions("style:x.png", "style:y.png", model="images")


def test_names_of_a_server_that_would_be_paths_are_refused() -> None:
    for name in ("../evil", "/evil", ""):
        with pytest.raises(ValidationError):
            ServedJob.model_validate({"model": name, "params": PARAMS})
        with pytest.raises(ValidationError):
            ServedView.model_validate({"name": name})


def test_the_warnings_of_a_job_are_read_whatever_a_newer_server_adds() -> None:
    warning = {"code": "tomorrow", "detail": "never seen", "more": 1}
    job = ServedJob.model_validate({"model": "m", "params": PARAMS, "warnings": [warning]})
    assert [each.detail for each in job.warnings] == ["never seen"]
