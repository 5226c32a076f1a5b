"""Training from the page: a zip of pictures is read, sent and learned, and in the end there is a model that draws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver import Keys

from tests.e2e.test_trainings import prompt
from tests.icons import icons, zipped
from tests.serving import ENVIRONMENT, Difuso, running
from tests.studio import Studio
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def trainer(models_dir: Path, redis_server: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Difuso]:
    """Serves `tiny`, and trains."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "DIFUSO_TRAINING"}
    folder = tmp_path_factory.mktemp("trainer")
    with running(folder, environment | {"DIFUSO_MODELS_DIR": str(models_dir)}, start=prompt) as difuso:
        yield difuso


@pytest.fixture
def page(driver: webdriver.Chrome, trainer: Difuso) -> Iterator[Studio]:
    """The tab on a first visit. At the end the browser must have no complaints."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    studio = Studio(driver, trainer.url, "desktop")
    driver.get("about:blank")
    studio.errors()
    studio.open()
    studio.click("#train-tab")
    studio.see("#train .drop")
    yield studio
    assert studio.errors() == []


def choose(page: Studio, folder: Path, name: str, files: dict[str, bytes]) -> None:
    path = folder / f"{name}.zip"
    path.write_bytes(zipped(files))
    page.one("#train .drop input").send_keys(str(path))


def fill(page: Studio, name: str, value: str) -> None:
    field = page.one(f"#train [name={name}]")
    if field.tag_name == "select":
        return page.pick(field, value)
    field.clear()
    field.send_keys(value)
    return None


def name_of(page: Studio) -> object:
    return page.one("#train [name=name]").get_property("value")


def drop(page: Studio, path: Path) -> None:
    """Drags a file or a folder onto the page, as from a file manager."""
    middle = "const { left, top, width } = arguments[0].getBoundingClientRect(); return [left + width / 2, top + 20]"
    x, y = page.driver.execute_script(middle, page.one("#train .drop"))
    dragged = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for event in ("dragEnter", "dragOver", "drop"):
        page.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": event, "x": x, "y": y, "data": dragged})


def test_a_zip_of_icons_becomes_a_model_that_draws_each_of_its_classes(page: Studio, tmp_path: Path, axe: str) -> None:
    """It is looked at before it is sent, and a reload in the middle shows the same."""
    choose(page, tmp_path, "Some icons", icons(600) | {"notes.txt": b"", "circle/a.heic": b""})
    wait_until(lambda: len(page.all("#train .thumbnails canvas")) == 48, 20, "48 pictures are shown")
    assert "About 600 pictures" in page.text("#train .found")
    assert "circle 200, square 200, triangle 200" in page.text("#train .found")
    page.click("#train .found summary")
    assert "circle/a.heic HEIC" in page.text("#train .found li:last-child")
    assert httpx.get(f"{page.url}/datasets").json() == {"datasets": []}, "nothing was sent"
    assert name_of(page) == "some-icons"
    page.press("Start training", "#train")
    assert page.all("#train [name=agreed]:invalid"), "its sender has not agreed"
    page.click("#train [name=agreed]")
    page.click("#train form summary")
    fill(page, "minutes", "0.35")  # of which two lines of the log come
    fill(page, "image_size", "16")
    assert page.axe(axe) == []
    page.press("Start training", "#train")
    wait_until(lambda: "#train=" in page.driver.current_url, 30, "it is sent, and a training has begun")
    address = page.driver.current_url
    page.click("[popovertarget=queue]")
    assert page.see(f"#queue a[href='#{address.rpartition('#')[2]}']").text == "some-icons"
    page.load("#" + address.rpartition("#")[2])
    assert page.see("#train h2").text == "some-icons"
    wait_until(lambda: page.text("#train .state").startswith("Done"), 120, "it is done")
    wait_until(lambda: len(page.all("#train .training polyline")) == 2, 20, "pictures held out have a curve, too")
    film = page.see("#train .denoising [type=range]")
    page.slide(film, 0)
    assert "after" in page.text("#train .denoising output")
    page.see("#train .tile[data-model=some-icons]", 60)
    assert "took" in page.text("#train .state")
    assert re.search(r"\d+ of 100 drawings look like copies", page.text("#train .news"))
    assert page.axe(axe) == []
    page.press("Train longer", "#train")
    wait_until(lambda: page.all("#train [value=good]:checked"), 10, "the same pictures wait for a longer training")
    assert name_of(page) == "some-icons-2"
    page.driver.get(address)
    page.see("#train .tile[data-model=some-icons]", 60)
    job = page.after(lambda: page.press("Use it now", "#train"))
    page.shown(job, 4)
    assert page.one("#form [name=model]").get_property("value") == "some-icons", "the page knows it without a reload"
    assert {"circle", "square", "triangle"} <= {*page.texts("#class option")}
    page.driver.get(address)
    page.press("Delete", "#train")
    page.keys(Keys.ESCAPE)
    page.press("Delete", "#train")
    page.press("Delete it and its model for good? The pictures stay.", "#train")
    wait_until(lambda: page.driver.current_url.endswith("#train"), 10, "it is gone")
    wait_until(lambda: page.all("#train .lists li"), 10, "its pictures are there")
    assert page.texts("#train .lists h3") == ["Pictures on this server"]
    page.press("Delete", "#train .lists")
    page.press("Delete for good?", "#train .lists")
    wait_until(lambda: not page.all("#train .lists li"), 10, "and now they are not")
    gone = f"{page.url}/models/some-icons"
    wait_until(lambda: httpx.get(gone).status_code == 404, 60, "the model is gone")
    page.load(f"#like={job}/0")
    wait_until(lambda: "some-icons is not, or no longer, served" in page.text("#like .error"), 10, "it says why not")
    assert not page.all("#like .blank"), "and waits for no pictures"
    assert all("422" in each for each in page.errors())
    assert httpx.get(f"{page.url}/datasets").json() == {"datasets": []}


def test_twelve_pictures_are_refused_and_what_is_no_archive(page: Studio, tmp_path: Path) -> None:
    choose(page, tmp_path, "few", icons(12))
    assert "50 are the least" in page.see("#train .found .error").text
    assert not page.one("#train form").is_displayed()
    (tmp_path / "text.zip").write_text("no archive")
    page.one("#train .drop input").send_keys(str(tmp_path / "text.zip"))
    assert "no zip archive" in page.see("#notices .error").text
    choose(page, tmp_path, "copies", icons(180) | {f"copy/{name[-6:]}": each for name, each in icons(60).items()})
    wait_until(lambda: "About 180 pictures" in page.text("#train .found"), 10, "copies are not counted")
    assert "20 are in it more than once" in page.text("#train .found")
    assert "With fewer than 500" in page.text("#train .found .warning")


def test_all_of_it_is_spanish_and_a_name_that_is_taken_is_refused_before_anything_is_sent(
    page: Studio, tmp_path: Path
) -> None:
    choose(page, tmp_path, "tiny", icons(60))
    page.see("#train [name=agreed]")
    assert name_of(page) == "tiny-2", "a model has the other"
    page.click("#train [name=agreed]")
    page.pick(page.one("#language"), "es")
    wait_until(lambda: "Sus carpetas serán clases" in page.text("#train .found"), 10, "what was read is said again")
    assert page.one("#train [name=agreed]").is_selected(), "and what was filled in stays"
    fill(page, "name", "tiny")
    page.press("Empezar a entrenar", "#train")
    said = page.one("#train [name=name]").get_property("validationMessage")
    assert said == "El nombre está ocupado: elige otro."
    assert httpx.get(f"{page.url}/datasets/tiny").status_code == 404, "nothing was sent"
    fill(page, "name", "Otro Niño")
    page.press("Medir aquí sus pasos", "#train")
    wait_until(lambda: "por paso" in page.text("#train .preset output"), 90, "some steps are measured")
    assert name_of(page) == "otro-nino"
    assert not any(each["dry_run"] for each in httpx.get(f"{page.url}/trainings").json()["trainings"])


def test_a_folder_is_read_and_what_holds_no_picture_says_why(page: Studio, tmp_path: Path) -> None:
    folder = tmp_path / "My Drawings"
    for name, content in (icons(60) | {"circle/broken.png": b"", ".DS_Store": b"", "notes.txt": b""}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    drop(page, folder)
    wait_until(lambda: "About 60 pictures" in page.text("#train .found"), 10, "it is read")
    assert "circle 20, square 20, triangle 20" in page.text("#train .found")
    assert page.text("#train .found summary") == "Left out: 2"
    assert name_of(page) == "my-drawings"
    choose(page, tmp_path, "outer", {"inner.zip": zipped(icons(60))})
    wait_until(lambda: page.text("#train .found strong") == "0 pictures", 10, "that has none")
    assert "inner.zip archives in archives" in page.text("#train .found li"), "which is seen at once"
    choose(page, tmp_path, "single", dict([*icons(3).items()][:1]))
    wait_until(lambda: page.text("#train .found strong") == "1 picture", 10, "that has one")


def test_a_training_waits_for_another_and_the_pictures_of_both_stay(page: Studio, tmp_path: Path) -> None:
    choose(page, tmp_path, "first", icons(60))
    wait_until(lambda: "60 pictures" in page.text("#train .found"), 10, "it is read, and nothing moves any more")
    page.click("#train [name=agreed]")
    page.click("#train form summary")
    wait_until(lambda: page.one("#train [name=minutes]").is_displayed(), 10, "the settings are open")
    fill(page, "minutes", "2")
    fill(page, "image_size", "16")
    assert page.text("#train .preset .plan").endswith("2\xa0min"), "and not as the preset has it"
    page.press("Start training", "#train")
    wait_until(lambda: "#train=" in page.driver.current_url, 30, "it is sent")
    page.driver.get(f"{page.url}/#train")
    page.press("Train on them", "#train .lists")
    wait_until(lambda: name_of(page) == "first-2", 10, "another name is proposed")
    page.press("Start training", "#train")
    wait_until(lambda: page.text("#train .state").startswith("Waits for first"), 30, "the trainer is busy")
    assert page.texts("#train .row.start button") == ["Pause", "Delete"], "there is nothing to keep"
    page.driver.get(f"{page.url}/#train")
    page.press("Delete", "#train .lists")
    page.press("Delete for good?", "#train .lists")
    wait_until(lambda: "A training uses the dataset" in page.text("#train .lists li .error"), 10, "it says why not")
    assert all("409" in each for each in page.errors())
    row = page.one("#train .lists section:last-child li")
    looks = "return performance.getEntriesByType('resource').filter(each => each.name.endsWith('/trainings')).length"
    before = page.driver.execute_script(looks)
    wait_until(lambda: page.driver.execute_script(looks) > before + 1, 20, "the page has looked again")
    assert "A training uses the dataset" in row.text, "and the row and its words stay"
    for each in httpx.get(f"{page.url}/trainings").json()["trainings"]:
        httpx.delete(f"{page.url}/trainings/{each['id']}")


def test_where_nothing_is_trained_there_is_no_tab_and_its_address_says_why(studio: Studio) -> None:
    assert not studio.one("#train-tab").is_displayed()
    studio.load("#train")
    assert "does not train" in studio.see("#train .page p").text
