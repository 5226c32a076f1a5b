"""The first peer: a diffusers pipeline behind FastAPI and a lock, the obvious first attempt."""

import sys
from pathlib import Path
from threading import Lock

import uvicorn
from fastapi import FastAPI, Response

from .pipeline import Painter, quiet_stdout, to_png


def create_app(painter: Painter) -> FastAPI:
    """Makes the whole server."""
    app = FastAPI()
    lock = Lock()  # a pipeline keeps its timesteps in its scheduler, so two calls must not overlap

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/generate")
    def generate(n: int, steps: int, seed: int) -> Response:
        with lock:
            images = painter.paint(range(seed, seed + n), steps=steps)
        return Response(to_png(images), media_type="image/png")

    return app


def main(folder: str, port: str, device: str) -> None:
    """Serves until it is killed."""
    quiet_stdout()
    uvicorn.run(create_app(Painter(Path(folder), device)), host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
