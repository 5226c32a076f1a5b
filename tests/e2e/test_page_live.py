"""The live strip: what the server does, from what the page hears anyway."""

import re

import httpx
import pytest

from tests.studio import Studio, at_both_widths
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

STEPS = 50  # image-steps that a job has made at each look
# The server reports one job that runs and of two that wait, until `window.ended`.
LISTS = """
const original = window.fetch;
let looks = 0;
const job = (id, state, done) => ({
  id, state, kind: "generate", model: "tiny", accepted_at: `3000-01-01T00:00:0${id}Z`, urgency: 3,
  params: { n: 1, steps: 9000, seed: 1, sampler: "ddim", guidance_scale: 1 },
  steps: { done, total: 9000 }, timings: {}, links: { self: `/jobs/${id}`, events: `/jobs/${id}/events` },
});
window.fetch = async (path, ...rest) => {
  if (path.startsWith("/jobs/")) return new Promise(() => {});
  if (!path.startsWith("/jobs?")) return original(path, ...rest);
  if (path === "/jobs?limit=24") looks++;
  const [running, waiting] = window.ended ? ["cancelled", "cancelled"] : ["running", "queued"];
  return Response.json({ jobs: [job("1", running, arguments[0] * looks), job("2", waiting, 0), job("3", waiting, 0)] });
};
import("/static/follow.js").then(({ lookNow }) => lookNow());
"""


def figures(studio: Studio) -> tuple[int, float, int]:
    """Returns the workers, the image-steps a second and the waiting jobs that the strip shows."""
    found = re.search(r"(\d+) workers?\s+([\d.,]+) steps/s\s+(\d+) waiting", studio.text("#live"))
    assert found, studio.text("#live")
    return int(found[1]), float(found[2].replace(",", "")), int(found[3])


@at_both_widths
def test_the_strip_shows_workers_speed_and_waiting_jobs(studio: Studio) -> None:
    workers = httpx.get(f"{studio.url}/readyz?verbose").json()["workers"]
    wait_until(lambda: figures(studio)[0] == workers, 15, "the workers are shown")
    studio.driver.execute_script(LISTS, STEPS)
    wait_until(lambda: figures(studio)[1:] > (0, 2) and figures(studio)[2] == 2, 20, "one job computes, and two wait")
    speed = figures(studio)[1]
    assert speed % (STEPS / 5) == 0, "the mean of five seconds"
    assert speed <= 3 * STEPS / 5, "in which the page looks three times at most"
    points = studio.driver.execute_script(
        "return document.querySelectorAll('#live polyline')[1].getAttribute('points')"
    )
    assert re.search(r",0(\.0+)?( |$)", points), "the most that waited in the last minute is at the top of the curve"
    assert studio.driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    studio.driver.execute_script("window.ended = true")
    wait_until(lambda: figures(studio)[2] == 0, 20, "nothing waits any more")


# What answers in the place of the server, as text and options of a Response, until `window.answer` is undefined.
ANSWERS = """
const original = window.fetch;
window.fetch = async (...asked) => (window.answer ? new Response(...window.answer) : original(...asked));
"""


def test_a_proxy_before_a_dead_server_is_no_answer(studio: Studio) -> None:
    """What else it answers without saying why shows its status."""
    studio.driver.execute_script(ANSWERS)

    def ends_with(answer: str, status: int, words: str) -> bool:
        studio.driver.execute_script("window.answer = [arguments[0], { status: arguments[1] }]", answer, status)
        studio.click("#form button[type=submit]")
        wait_until(lambda: words in studio.alarm, 5, f"the form says {words!r}")
        return studio.one("#lost").is_displayed()

    assert ends_with("<h1>Bad Gateway</h1>", 502, "The server does not answer.")
    assert not ends_with("<h1>Not Found</h1>", 404, "HTTP 404.")
    assert not ends_with("{}", 500, "HTTP 500.")
