"""The page at / as its user meets it: what can be clicked, dragged and typed, and what is seen."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.waiting import wait_until

AXE_RULES = {  # by scheme: tags, or the rules that look at colours
    "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "dark": ["color-contrast", "link-in-text-block"],
}
WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
# For claims about the layout and about touch.
at_both_widths = pytest.mark.parametrize(
    "studio", ["desktop", pytest.param("phone", marks=pytest.mark.slow)], indirect=True
)


class Studio:
    """The page in a browser, and the server behind it."""

    def __init__(self, driver: webdriver.Chrome, url: str, width: str) -> None:
        self.driver = driver
        self.url = url
        self.is_phone = width == "phone"
        across, down = WIDTHS[width]
        metrics = {"width": across, "height": down, "deviceScaleFactor": 1, "mobile": self.is_phone}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": self.is_phone})

    def open(self, path: str = "") -> None:
        """Loads the page as on a first visit."""
        self.driver.get(f"{self.url}/static/icon.svg")
        self.driver.execute_script(
            "localStorage.clear(); sessionStorage.clear(); indexedDB.deleteDatabase('difuso');"
            "localStorage.setItem('difuso-language', 'en')"
        )
        self._go(path)

    def load(self, path: str = "") -> None:
        """Loads the page anew, even where only the part after # differs."""
        self.driver.get("about:blank")
        self._go(path)

    def _go(self, path: str) -> None:
        self.driver.get(f"{self.url}/{path}")
        wait_until(lambda: self.all("#form [name=sampler] option + option"), 15, "the form is filled")
        wait_until(lambda: self.all("#live > span"), 15, "and all that stands beside it is there")
        self.form = self.one("#form")

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def see(self, selector: str, seconds: float = 15) -> WebElement:
        """Waits for an element that is displayed."""
        found: list[WebElement] = []

        def is_seen() -> bool:
            with suppress(StaleElementReferenceException):  # replaced between the two calls
                found[:] = [each for each in self.all(selector) if each.is_displayed()]
            return bool(found)

        wait_until(is_seen, seconds, f"{selector} is seen")
        return found[0]

    def click(self, target: str | WebElement) -> None:
        element = self.see(target) if isinstance(target, str) else target
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def button(self, text: str, inside: str = "body") -> WebElement:
        """Returns a displayed button by its words."""
        script = """
        return [...document.querySelectorAll(arguments[0])].find(
          each => each.checkVisibility() && each.innerText.trim() === arguments[1])
        """

        found: list[WebElement] = []

        def look() -> list[WebElement]:
            button: WebElement | None = self.driver.execute_script(script, f"{inside} button, {inside} a.button", text)
            found.extend([] if button is None else [button])
            return found

        wait_until(look, 10, f"there is a button {text!r} in {inside}")
        return found[0]

    def press(self, text: str, inside: str = "body") -> None:
        """Clicks a button by its words; a button that is redrawn at this moment is found again."""

        def pressed() -> bool:
            try:
                self.click(self.button(text, inside))
            except StaleElementReferenceException:
                return False
            return True

        wait_until(pressed, 10, f"{text!r} is pressed")

    def text(self, selector: str) -> str:
        """Returns the words of the first such element, as they are seen; nothing if there is none."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.driver.execute_script(script, selector))

    def texts(self, selector: str) -> list[str]:
        """Returns the words of all such elements at one moment, so that none of them can be redrawn in between."""
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText)"
        found: list[str] = self.driver.execute_script(script, selector)
        return found

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def show_form(self) -> None:
        """Opens the form where it is a sheet."""
        if self.is_phone:
            if not self.form.is_displayed():
                self.click("#open")
            is_up = "return document.querySelector('dialog.sheet')?.getAnimations().length === 0"
            wait_until(lambda: self.driver.execute_script(is_up), 15, "it has come up")

    def hide_form(self) -> None:
        """Closes the form where it is a sheet."""
        if self.is_phone and self.form.is_displayed():
            self.keys(Keys.ESCAPE)
            wait_until(lambda: not self.all("dialog.sheet"), 5, "the sheet closes")

    def fill(self, name: str, value: str) -> None:
        """Types into the enabled field of this name, or chooses an option; unfolds the form where it must."""
        self.show_form()
        field = next(each for each in self.form.find_elements(By.NAME, name) if each.is_enabled())
        if not field.is_displayed():
            self.unfold()
        if field.tag_name == "select":
            self.pick(field, value)
        elif field.get_attribute("type") == "file":
            field.send_keys(value)
        else:
            field.clear()
            field.send_keys(value)

    def unfold(self) -> None:
        """Opens the part of the form with all other settings."""
        self.show_form()
        if not self.all("#form details[open]"):
            self.click("#form summary")

    def choose(self, kind: str) -> None:
        self.show_form()
        self.pick(self.one("#kind"), kind)

    def pick(self, select: WebElement, value: str) -> None:
        """Chooses the option with this value."""
        options = select.find_elements(By.TAG_NAME, "option")
        next(each for each in options if each.get_property("value") == value).click()

    def slide(self, slider: WebElement, value: float) -> None:
        """Moves a slider with the keys."""
        slider.send_keys(Keys.HOME)
        start, step = (float(slider.get_property(name) or 1) for name in ("min", "step"))  # type: ignore[arg-type]
        slider.send_keys(Keys.ARROW_RIGHT * round((value - start) / step))

    def newest(self) -> str:
        jobs = httpx.get(f"{self.url}/jobs?limit=1").json()["jobs"]
        return str(jobs[0]["id"]) if jobs else ""

    def after(self, action: Callable[[], object]) -> str:
        """Does what makes a job; returns the job's id."""
        before = self.newest()
        action()
        wait_until(lambda: self.newest() != before, 15, f"a job is made; the page says {self.alarm!r}")
        return self.newest()

    def make(self) -> str:
        self.show_form()
        return self.after(lambda: self.click("#form button[type=submit]"))

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/jobs/{job_id}").json()
        return found

    def done(self, job_id: str) -> dict[str, Any]:
        wait_until(lambda: self.job(job_id)["state"] == "succeeded", 30, f"{job_id} succeeds")
        return self.job(job_id)

    def sees(self, job_id: str) -> int:
        """Returns the number of a card's finished images that the browser could decode."""
        found = f"#job-{job_id} a.picture img"
        script = "return [...document.querySelectorAll(arguments[0])].filter(each => each.naturalWidth).length"
        return int(self.driver.execute_script(script, found))

    def shown(self, job_id: str, count: int) -> str:
        """Returns the words of the card, once all its images are there."""
        wait_until(lambda: self.sees(job_id) == count, 30, f"{count} pictures are shown")
        return self.text(f"#job-{job_id}")

    def made(self, count: int = 1, **fields: str) -> str:
        """Generates images by the form, and waits until they are shown."""
        for name, value in {"n": str(count), "steps": "3", **fields}.items():
            self.fill(name, value)
        job_id = self.make()
        self.shown(job_id, count)
        return job_id

    def view(self, job_id: str, index: int = 0) -> WebElement:
        """Opens an image."""
        self.click(f"#job-{job_id} a.picture[data-index='{index}']")
        return self.see("dialog.viewer")

    @property
    def alarm(self) -> str:
        return self.one("#error").text

    def pixels(self, path: str, *, mode: str = "RGB") -> Image.Image:
        return Image.open(io.BytesIO(httpx.get(f"{self.url}{path}").content)).convert(mode)

    def drop(self, target: WebElement, file: Path) -> None:
        """Drops a file from the desktop, through the browser's own input."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
        seen = "const box = arguments[0].getBoundingClientRect(); const middle = (from, to, most) =>"
        seen += "(Math.max(0, from) + Math.min(most, to)) / 2; return {x: middle(box.left, box.right, innerWidth),"
        seen += "y: middle(box.top, box.bottom, innerHeight)}"
        places = [self.driver.execute_script(seen, target)]

        def stays() -> bool:
            places.append(self.driver.execute_script(seen, target))
            return bool(places[-1] == places[-2])

        wait_until(stays, 10, "nothing that loads moves it")
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}

        def drag(kind: str) -> None:
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **places[-1], "data": data})

        drag("dragEnter")
        # A page that has not answered yet does not take the file, and the browser opens it in a tab of its own.
        wait_until(lambda: self.all("body.dragging"), 10, "the page has noticed the file")
        for kind in ("dragOver", "dragOver", "drop"):
            drag(kind)

    def hold(self, element: WebElement) -> None:
        """Holds a finger on an element until the page has noticed."""
        seen = "arguments[0].scrollIntoView({block: 'center'}); const box = arguments[0].getBoundingClientRect();"
        seen += "return {x: box.x + box.width / 2, y: box.y + box.height / 2}"
        place = self.driver.execute_script(seen, element)
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [place]})
        is_held = "return arguments[0].matches('.held')"
        wait_until(lambda: self.driver.execute_script(is_held, element), 5, "it is held")
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def downloads(self, folder: Path) -> None:
        """Saves downloads from now on in a folder."""
        where = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)

    def downloaded(self, folder: Path, pattern: str) -> Path:
        wait_until(lambda: list(folder.glob(pattern)), 15, f"{pattern} is saved")
        return next(folder.glob(pattern))

    def errors(self) -> list[str]:
        """Returns the complaints of the browser since the last call."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def axe(self, program: str) -> list[str]:
        """Returns the violations of WCAG 2.2 A and AA that axe-core finds; in the dark scheme, those of colours."""
        self.driver.execute_script(program)
        return [each for scheme, rules in AXE_RULES.items() for each in self._violations(scheme, rules)]

    def _violations(self, scheme: str, rules: Sequence[str]) -> list[str]:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        done = self.driver.execute_async_script(
            "const [runOnly, done] = arguments;"
            "axe.run(document, {runOnly})"
            ".then(found => done(found.violations), error => done([{id: String(error), nodes: []}]))",
            rules,
        )
        return [
            f"{scheme} {each['id']}: {json.dumps([node['html'][:160] for node in each['nodes']][:3])}" for each in done
        ]
