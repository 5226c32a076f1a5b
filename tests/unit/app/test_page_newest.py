"""What the page asks for while a slider moves: one request at a time, next the newest value, and nothing late."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

STATIC = Path(__file__).parents[3] / "app" / "static"
# A server that answers when the test says so, and a clock that the test sets.
WORLD = """
import { Newest } from "./editing/newest.js";
let [clock, flying, most, timers] = [0, 0, 0, []];
performance.now = () => clock;
globalThis.setTimeout = (action, after) => timers.push({ action, at: clock + after });
globalThis.clearTimeout = id => delete timers[id - 1];
const pass = to => {
  clock = to;
  timers.forEach(({ action, at }, each) => at <= clock && (delete timers[each], action()));
};
const [sent, aborted, said] = [[], [], []];
const send = (value, signal) => new Promise((resolve, reject) => {
  most = Math.max(most, ++flying);
  const ending = act => answer => (flying--, act(answer));
  signal.addEventListener("abort", () => (aborted.push(value), ending(reject)(new Error("AbortError"))));
  sent.push({ value, answer: ending(resolve), refuse: ending(reject) });
});
const [show, fail] = [(...all) => said.push(all), ({ message }) => said.push(message)];
const newest = new Newest({ send, show, fail, patience: () => 250 });
const settle = () => new Promise(resolve => setImmediate(resolve));
"""


def played(script: str) -> dict[str, Any]:
    end = "console.log(JSON.stringify({ sent: sent.map(({ value }) => value), aborted, said, most }));"
    command = ["node", "--input-type=module", "-e", WORLD + script + end]
    try:
        run = subprocess.run(command, cwd=STATIC, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("node is not there")
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_one_request_is_on_its_way_and_only_the_newest_value_follows_it() -> None:
    script = """
    for (const value of [1, 2, 3]) newest.want(value);
    pass(100);
    sent[0].answer("one");
    await settle();
    sent[1].answer("three");
    await settle();
    """
    assert played(script) == {"sent": [1, 3], "aborted": [], "said": [["one", 1], ["three", 3]], "most": 1}


def test_a_slow_request_is_cancelled_for_a_newer_value_and_its_answer_is_dropped() -> None:
    script = """
    newest.want(1);
    pass(200);
    newest.want(2);
    pass(249);
    newest.want(3);
    await settle();
    const early = aborted.length;
    pass(250);
    await settle();
    sent[0].answer("late");
    sent[1].answer("three");
    await settle();
    said.push(early);
    """
    assert played(script) == {"sent": [1, 3], "aborted": [1], "said": [["three", 3], 0], "most": 1}


def test_what_was_stopped_is_not_shown_and_an_error_lets_the_next_value_through() -> None:
    script = """
    newest.want(1);
    newest.want(2);
    newest.stop();
    await settle();
    newest.want(3);
    await settle();
    sent[1].refuse(new Error("busy"));
    await settle();
    newest.want(4);
    sent[2].answer("four");
    await settle();
    """
    assert played(script) == {"sent": [1, 3, 4], "aborted": [1], "said": ["busy", ["four", 4]], "most": 1}
