"""The second peer: LitServe with dynamic batching. It takes up to eight waiting requests together.

A pipeline runs one number of steps at a time. So the requests of a batch with the same number share one call, and these
groups follow each other. LitServe's loop answers all requests when the last group is done.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import litserve
from fastapi import Response
from PIL import Image

from .pipeline import Painter, quiet_stdout, to_png

BATCH_REQUESTS = 8  # requests in one batch at most
BATCH_SECONDS = 0.05  # the value in LitServe's own documentation


class Generate(litserve.LitAPI):  # type: ignore[misc]  # litserve ships no types
    """The API, as LitServe wants it."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(max_batch_size=BATCH_REQUESTS, batch_timeout=BATCH_SECONDS, api_path="/generate")
        self._folder, self._where = folder, device

    def setup(self, device: str) -> None:
        self._painter = Painter(self._folder, self._where)

    def decode_request(self, request: dict[str, int]) -> dict[str, int]:
        return request

    def batch(self, inputs: list[dict[str, int]]) -> list[dict[str, int]]:
        return inputs

    def predict(self, inputs: list[dict[str, int]]) -> list[list[Image.Image]]:
        groups = defaultdict(list)
        for index, request in enumerate(inputs):
            groups[request["steps"]].append(index)
        answers: dict[int, list[Image.Image]] = {}
        for steps, members in groups.items():
            seeds = [inputs[index]["seed"] + image for index in members for image in range(inputs[index]["n"])]
            images = iter(self._painter.paint(seeds, steps=steps))
            answers |= {index: [next(images) for _ in range(inputs[index]["n"])] for index in members}
        return [answers[index] for index in range(len(inputs))]

    def unbatch(self, output: list[list[Image.Image]]) -> list[list[Image.Image]]:
        return output

    def encode_response(self, output: list[Image.Image]) -> Any:
        return Response(to_png(output), media_type="image/png")


def main(folder: str, port: str, device: str) -> None:
    """Serves until it is killed."""
    quiet_stdout()
    server = litserve.LitServer(Generate(Path(folder), device), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
