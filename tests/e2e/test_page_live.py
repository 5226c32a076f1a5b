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
  if (path.startsWith("/jobs?limit=24")) looks++;
  const [running, waiting] = window.ended ? ["cancelled", "cancelled"] : ["running", "queued"];
  return Response.json({ jobs: [job("1", running, arguments[0] * looks), job("2", waiting, 0), job("3", waiting, 0)] });
};
import("/static/follow.js").then(({ lookNow }) => lookNow());
"""


def figures(studio: Studio) -> tuple[int, float, int]:
    """Returns the workers, the image-steps a second and the waiting jobs that the strip shows."""
    found = re.search(r"(\d+) workers?\s+([\d.,]+)\ssteps/s\s+(\d+) waiting", studio.text("#live"))
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
    points = "return document.querySelectorAll('#live polyline')[1].getAttribute('points')"
    wait_until(lambda: studio.driver.execute_script(points), 10, "three samples are a curve")
    is_at_top = re.search(r",0(\.0+)?( |$)", studio.driver.execute_script(points))
    assert is_at_top, "the most that waited in the last minute is at the top of the curve"
    assert studio.driver.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    studio.driver.execute_script("window.ended = true")
    wait_until(lambda: figures(studio)[2] == 0, 20, "nothing waits any more")
