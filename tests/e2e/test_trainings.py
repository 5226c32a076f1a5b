"""From pictures to a model that draws: `difuso serve` trains on what it was sent, and serves what it has learned."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from difuso import Client
from tests.forking import Command
from tests.icons import icons, write_icons, zipped
from tests.serving import Difuso, running
from tests.waiting import wait_until

SMALL = {"preset": "taste", "image_size": 16, "batch_size": 8}
# A trainer of the usual priority: the tests beside it would leave one of the lowest next to nothing.
PROMPT = "import difuso.trainer.main; difuso.trainer.main.NICE = 0"


def prompt(port: int, folder: Path, environment: dict[str, str], log: Path) -> Command:
    return Command(["serve", "--port", str(port)], environment=environment, folder=folder, log=log, first=PROMPT)


@pytest.fixture
def difuso(environment: dict[str, str], tmp_path: Path) -> Iterator[Difuso]:
    del environment["DIFUSO_TRAINING"]
    with running(tmp_path, environment, start=prompt) as difuso:
        yield difuso


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("redis_server")
def test_an_archive_of_icons_becomes_a_model_that_draws_each_of_their_classes(difuso: Difuso) -> None:
    with httpx.Client(base_url=difuso.url, timeout=30) as api:
        sent = api.post("/datasets", files={"images": ("icons.zip", zipped(icons(90)))}, data={"name": "icons"})
        assert sent.status_code == 201, sent.text
        wanted = {"preset": SMALL, "minutes": 0.1}
        made = api.post("/trainings", json={"dataset": "icons", "name": "shapes", **wanted})
        assert made.status_code == 202, made.text
        path = made.headers["location"]
        with api.stream("GET", f"{path}/events", timeout=240) as stream:
            events = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event")]
        done = api.get(path).json()
        assert events[-1] == "succeeded", (done, difuso.output)
        assert set(events[:-1]) == {"progress"}
        progress = done["progress"]
        assert progress["step"] == progress["steps"] == progress["served"]
        assert [*map(int, re.findall(r"/(\d+)$", "\n".join(done["sheets"]), re.MULTILINE))] == progress["sheets"]
        for each in (done["sheets"][-1], done["nearest"][-1]):
            assert Image.open(io.BytesIO(api.get(each).content)).width > 16
        assert 0 <= progress["copies"] <= 1
        assert progress["held_out"][-1][0] == progress["step"]
        assert 'name = "shapes"' in done["recipe"]
        wait_until(lambda: api.get("/models/shapes").json().get("state") == "ready", 60, "the model is served")
        model = api.get("/models/shapes").json()
        assert model["conditions"]["label"]["values"] == ["circle", "square", "triangle"]
        drawn = api.post("/generate", params={"model": "shapes", "label": "square", "seed": 1})
        assert Image.open(io.BytesIO(drawn.content)).size == (16, 16)
        assert "shapes" not in api.post("/generate", params={"steps": 2}, headers={"Accept": "application/json"}).text
        assert api.delete(path).status_code == 204
        wait_until(lambda: api.get("/models/shapes").status_code == 404, 60, "the model is gone")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("redis_server")
def test_the_client_hears_a_price_and_a_training_outlives_a_kill_of_everything(
    difuso: Difuso, environment: dict[str, str], tmp_path: Path
) -> None:
    pictures = write_icons(tmp_path / "shapes.zip")
    with Client(difuso.url) as client:
        priced = client.train(pictures, name="shapes", preset=SMALL, dry_run=True)
        assert "steps would take" in priced["log"]
        assert client.trainings() == {"trainings": []}
        made = client.train(pictures, name="shapes", preset=SMALL, minutes=0.1)
        wait_until(lambda: client.training(made["id"])["progress"]["steps"], 60, "it runs")
    trainer = difuso.pid("trainer")
    difuso.process.kill()
    difuso.process.wait()
    wait_until(lambda: not Path(f"/proc/{trainer}").exists(), 20, "the trainer has noticed")
    with running(tmp_path, environment, start=prompt) as again, Client(again.url) as client:
        wait_until(lambda: client.training(made["id"])["state"] == "succeeded", 180, "it has ended")
        assert client.training(made["id"])["progress"]["served"]
