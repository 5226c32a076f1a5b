"""Which values of conditions are files, where a server draws."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from difuso.client import Client
from difuso.drawing.remote_drawing import arguments
from difuso.drawing.sampling import Request
from difuso.errors import UserError
from jobs.kinds import KINDS
from jobs.queries import SamplingQuery

SKETCH = {"type": "image", "null": True, "channels": 1, "size": 4}
STYLE = {"type": "vector", "null": True, "size": 2}
MODELS = {
    "default": "vectors",
    "models": [
        {"name": "images", "conditions": {"style": SKETCH}},
        {"name": "up", "conditions": {"image": SKETCH, "style": SKETCH}, "condition": {"size": 8}},
        {"name": "vectors", "conditions": {"style": STYLE}},
    ],
}


def conditions(*told: str, kind: str = "generate", model: str | None = None) -> Any:
    with Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=MODELS))) as client:
        query = KINDS[kind].query.model_validate({"condition": list(told), "model": model})
        assert isinstance(query, SamplingQuery)
        return arguments(client, Request(KINDS[kind], query))["conditions"]


def test_a_value_is_a_file_if_it_is_an_image_to_the_model_that_draws() -> None:
    assert conditions("style:0.5,1") == {"style": "0.5,1"}
    assert conditions("style:x.png", model="images") == {"style": Path("x.png")}
    assert conditions("style:x.png", kind="upscale") == {"style": Path("x.png")}
    assert conditions("style:[0.5,1]", "style:[2,3]") == {"style": [[0.5, 1], [2, 3]]}


def test_an_image_that_is_told_twice_is_refused() -> None:
    with pytest.raises(UserError, match="style: Input should be one image for all"):
        conditions("style:x.png", "style:y.png", model="images")
