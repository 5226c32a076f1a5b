"""A network of another package is served like one of ours: in shared batches, guided, after kill -9, and verified."""

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from selenium import webdriver
from typer.testing import CliRunner

from difuso import Client, cli
from difuso.model.conditions import Number, Vector, VectorSequence
from tests.forking import Command
from tests.serving import ENVIRONMENT, Difuso, running
from tests.strangers import CANARY, CLASSES, PACKAGE, change, on_the_path, save_model, write_package
from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

CONDITIONS = {"bright": Number(0, 10), "style": Vector(2, null=True)}
ELSEWHERE = "elsewherelab"  # a package that is found like the other, but is not allowed


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_package(tmp_path_factory.mktemp("lab"))
    (folder / ELSEWHERE).mkdir()
    (folder / ELSEWHERE / "nets.py").write_text((folder / PACKAGE / "nets.py").read_text())
    return folder


@pytest.fixture(scope="module")
def models(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    with on_the_path(lab):
        save_model(folder / "mine", "Conditional", classes=CLASSES, conditions=CONDITIONS)
        save_model(folder / "theirs", classes=CLASSES)
        save_model(folder / "stack", "Stack", channels=16)
        save_model(folder / "reader", "Attentive", conditions={"text": VectorSequence(8, 4, null=True)})
    change(folder / "theirs", type=f"{ELSEWHERE}.nets:Denoiser")
    (lab / PACKAGE / CANARY).unlink()
    return folder


def found_in(lab: Path, port: int, folder: Path, environment: dict[str, str], log: Path) -> Command:
    """Starts a server that finds the packages of a folder, as with PYTHONPATH."""
    words = ["serve", "--port", str(port)]
    first = f"import sys; sys.path.append({str(lab)!r})"
    return Command(words, environment=environment, folder=folder, log=log, first=first)


@pytest.fixture(scope="module")
def served(lab: Path, models: Path, redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Difuso]:
    ours = {"DIFUSO_MODELS_DIR": str(models), "DIFUSO_DEFAULT_MODEL": "mine", "DIFUSO_SLOTS": "4"}
    environment = ENVIRONMENT | ours | {"DIFUSO_NETWORKS": PACKAGE}
    with running(tmp_path_factory.mktemp("run"), environment, start=partial(found_in, lab)) as difuso:
        yield difuso


def draw(difuso: Difuso, **query: Any) -> bytes:
    params: dict[str, Any] = {"steps": 8, "sampler": "ddpm", "label": 1, "condition": "bright:3"} | query
    return httpx.post(f"{difuso.url}/generate", params=params, timeout=60).raise_for_status().content


def test_what_is_not_allowed_is_refused_and_never_imported(served: Difuso, lab: Path) -> None:
    """The front end imports nothing at all."""

    def theirs() -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{served.url}/models/theirs").json()
        return found

    wait_until(lambda: theirs()["state"] == "refused", 30, "the worker has looked at it")
    assert theirs()["reason"].startswith(f"{ELSEWHERE}.nets:Denoiser is code of another package, which is not allowed")
    assert theirs()["classes"] == list(CLASSES)
    assert not (lab / ELSEWHERE / CANARY).exists()
    assert set((lab / PACKAGE / CANARY).read_text().split()) == {str(served.pid("worker"))}


def test_a_stack_of_sixteen_slices_has_the_same_pixels_alone_and_in_a_batch(served: Difuso) -> None:
    headers = {"Accept": "application/x-npy"}
    params: dict[str, Any] = {"model": "stack", "steps": 4, "sampler": "ddpm"}
    batch, alone = (
        np.load(io.BytesIO(httpx.post(f"{served.url}/generate", params=params | each, headers=headers).content))
        for each in ({"seed": 7, "n": 4}, {"seed": 9, "n": 1})
    )
    assert batch.shape == (4, 8, 8, 16)
    assert np.array_equal(batch[2], alone[0])


def test_its_images_are_verified(
    served: Difuso, lab: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(draw(served, seed=9, guidance_scale=2, condition=["bright:3", "style:1,1"]))
    arguments = ["verify", str(picture), "--models-dir", str(models)]
    refused = CliRunner().invoke(cli.app, arguments)
    assert "which is not allowed here: if you trust it, set DIFUSO_NETWORKS" in str(refused.exception)
    monkeypatch.setenv("DIFUSO_NETWORKS", PACKAGE)
    with on_the_path(lab):
        result = CliRunner().invoke(cli.app, arguments)
    assert (result.exit_code, "equal in every pixel" in result.output) == (0, True), result.output


def test_the_page_sends_the_file_of_a_sequence(served: Difuso, driver: webdriver.Chrome, tmp_path: Path) -> None:
    """Its picture is that of the client, which sends the same numbers as lists, in a batch with other lengths."""
    text = np.linspace(-2, 2, 24).reshape(3, 8).astype(np.float16)
    np.save(tmp_path / "text.npy", text)
    studio = Studio(driver, served.url, "desktop")
    studio.open()
    studio.fill("model", "reader")
    field = studio.one("[name='condition:text']")
    assert (field.get_attribute("type"), field.get_attribute("accept")) == ("file", ".npy")
    studio.fill("condition:text", str(tmp_path / "text.npy"))
    job_id = studio.made(1, seed="7")
    shown = httpx.get(f"{served.url}/jobs/{job_id}/images/0").content
    asked: dict[str, Any] = {"model": "reader", "steps": 3, "seed": 7}
    with Client(served.url) as client:
        others = [client.submit("generate", **asked, conditions={"text": each}) for each in (text[:1], text[:2], None)]
        lists = client.generate(**asked, conditions={"text": text.tolist()})
        assert list(lists.pngs) == [shown]
        assert len({shown, *(job.images().pngs[0] for job in others)}) == 4
    assert studio.errors() == []
