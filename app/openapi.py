"""The parts of the OpenAPI description that FastAPI cannot make route by route."""

from typing import Any

from fastapi import FastAPI

from .http.problems import MEDIA_TYPE

TAGS = [
    {"name": "jobs", "description": "Asking for images, which submits a job; its state, its images and its end"},
    {"name": "models", "description": "The models and what they can do"},
    {"name": "fleet", "description": "Workers and queues, for operators"},
    {"name": "health", "description": "Whether the process lives and can serve, and its metrics"},
]
TRAINING = {"name": "training", "description": "Pictures to train on, and trainings"}


def describe(app: FastAPI) -> None:
    """Lets the application describe its problems and streams."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(make())
        return make()

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(schema: dict[str, Any]) -> None:
    """Gives problems their media type, and says in OpenAPI 3.1 that an answer is a stream.

    The page reads this description, so it says nothing twice: a parameter's description is not also in its schema, and
    nothing has its name as title, too.

    FastAPI lists every model under the media type of the route, and describes the events of a stream by a word of 3.2.
    """
    _drop_titles(schema["paths"])
    _drop_titles(schema["components"])
    for path in schema["paths"].values():
        for operation in path.values():
            operation.setdefault("security", [])  # said, and not left out: this route needs no key
            for parameter in operation.get("parameters", ()):
                parameter["schema"].pop("description", None)
            for code, response in operation["responses"].items():
                if code == "default":
                    _, problem = response["content"].popitem()
                    response["content"] = {MEDIA_TYPE: problem}
                for media in response.get("content", {}).values():
                    if media.pop("itemSchema", None):
                        media["schema"] = {}


def _drop_titles(part: Any) -> None:
    """Drops the titles, which Pydantic makes of names, below a part of the description."""
    children = list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []
    if isinstance(part, dict) and isinstance(part.get("title"), str):  # and no field of this name
        del part["title"]
    for child in children:
        _drop_titles(child)
