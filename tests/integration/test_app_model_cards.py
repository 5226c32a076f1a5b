"""The description and the figures of a model, which the API reads from the model's folder and from nowhere else."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from difuso.app.settings import ApiSettings
from difuso.jobs.catalog import read_catalog
from difuso.model.formats.folders import read_config
from tests.app_server import ALICE, keys_file, running

LOG = '{"step": 1, "loss": 0.5}\n'
CARD = "# tiny\n\nRandom weights: x\u0302.\n"


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    """A models folder: `tiny` has a description, a sheet and a log, `bare` has neither, and `broken` is refused."""
    folder = tmp_path / "models"
    for name in ("tiny", "bare", "broken"):
        shutil.copytree(models_dir / "tiny", folder / name)
    (folder / "broken" / "config.json").write_text("{}")
    for name in ("tiny", "broken"):
        (folder / name / "README.md").write_text(CARD, "utf-8")
    (folder / "tiny" / "sheet.png").write_bytes(b"\x89PNG")
    (folder / "tiny" / "metrics.jsonl").write_text(LOG, "utf-8")
    (folder / "README.md").write_text("about all of them")
    return folder


@pytest.fixture
def api(redis_url: str, folder: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    settings = ApiSettings(
        redis_url=redis_url, models_dir=folder, store_url=str(tmp_path / "store"), api_keys_file=keys_file(tmp_path)
    )
    with running(settings) as client:
        yield client


def test_a_model_with_a_description_shows_it(api: httpx.Client) -> None:
    card = api.get("/models/tiny/card", headers=ALICE)
    assert card.text == CARD
    assert card.headers["content-type"] == "text/markdown; charset=utf-8"
    sheet = api.get("/models/tiny/figures/sheet", headers=ALICE)
    assert sheet.content == b"\x89PNG"
    assert sheet.headers["content-type"] == "image/png"
    log = api.get("/models/tiny/metrics", headers=ALICE)
    assert log.text == LOG
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert api.get("/models/tiny", headers=ALICE).json()["about"] == "Random weights: x\u0302."
    assert api.get("/models/tiny", headers=ALICE).json()["documents"] == ["card", "sheet", "metrics"]
    assert not {"about", "documents"} & api.get("/models/bare", headers=ALICE).json().keys()
    assert api.head("/models/tiny/card", headers=ALICE).status_code == 200
    for answer, path in ((card, "card"), (sheet, "figures/sheet"), (log, "metrics")):
        known = {"If-None-Match": answer.headers["ETag"]}
        assert api.get(f"/models/tiny/{path}", headers=ALICE | known).status_code == 304


def test_a_description_is_there_as_html_too(api: httpx.Client) -> None:
    card = api.get("/models/tiny/card", headers=ALICE | {"Accept": "text/html,*/*;q=0.8"})
    assert card.text == "<h3>tiny</h3>\n<p>Random weights: x\u0302.</p>\n"
    assert card.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src" not in card.headers["content-security-policy"]  # nothing runs
    known = {"If-None-Match": card.headers["ETag"], "Accept": "text/html"}
    assert api.get("/models/tiny/card", headers=ALICE | known).status_code == 304
    assert api.get("/models/tiny/card", headers=ALICE | known | {"Accept": "text/markdown"}).text == CARD
    assert api.get("/models/bare/card", headers=ALICE | {"Accept": "text/html"}).status_code == 404
    assert api.get("/models/tiny/card", headers=ALICE | {"Accept": "image/png"}).status_code == 406


def test_a_glance_at_a_sheet_is_a_small_picture(api: httpx.Client, folder: Path) -> None:
    Image.new("RGB", (142, 142), "teal").save(
        folder / "tiny" / "sheet.png"
    )  # 8 x 8 images of 16, with gaps of 2 pixels
    found = api.get("/models/tiny/figures/glance", headers=ALICE)
    assert found.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(found.content)).size == (70, 34)
    known = {"If-None-Match": found.headers["ETag"]}
    assert api.get("/models/tiny/figures/glance", headers=ALICE | known).status_code == 304


def test_a_model_shows_its_noise_schedule(api: httpx.Client, models_dir: Path) -> None:
    shown = api.get("/models/tiny/schedule", headers=ALICE).json()
    assert shown == {"alphas_cumprod": read_config(models_dir / "tiny").schedule.build().alphas_cumprod.tolist()}
    assert api.get("/models/broken/schedule", headers=ALICE).status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/tiny/figures/losses", 404),
        ("/models/tiny/figures/glance", 404),  # its sheet is no picture
        ("/models/bare/figures/glance", 404),
        ("/models/bare/card", 404),
        ("/models/bare/metrics", 404),
        ("/models/broken/card", 404),
        ("/models/none/card", 404),
        ("/models/%2e%2e/card", 404),
        ("/models/./card", 404),
        ("/models/tiny/figures/config", 422),
        ("/models/tiny/figures/..%2fsheet", 404),
    ],
)
def test_nothing_else_is_read(api: httpx.Client, path: str, status: int) -> None:
    assert api.get(path, headers=ALICE).status_code == status


def test_a_folder_of_a_stranger_cannot_show_other_files(api: httpx.Client, folder: Path) -> None:
    inside, outside = folder / "bare" / "about.md", folder / "README.md"
    inside.write_text(CARD, "utf-8")
    card, figure = (folder / "bare" / name for name in ("README.md", "sheet.png"))
    for target, status in ((outside, 404), (card, 404), (inside, 200)):
        for link, path in ((card, "card"), (figure, "figures/sheet")):
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            assert api.get(f"/models/bare/{path}", headers=ALICE).status_code == status, target
        assert (read_catalog(folder).models["bare"].about is not None) is (status == 200)
    os.truncate(inside, 1 << 30)
    for path in ("card", "figures/sheet"):
        assert api.get(f"/models/bare/{path}", headers=ALICE).status_code == 404


def test_a_key_is_needed(api: httpx.Client) -> None:
    for path in ("/models/tiny/card", "/models/tiny/metrics", "/models/tiny/figures/sheet"):
        assert api.get(path).status_code == 401
