"""Log lines: one for each event, whatever it holds."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from difuso.logs import Form, formatter

EVIL = "a\r\n12:00:00    api  all is well \x1b[31m\u2028{}"


def line(form: Form, message: str, *arguments: object, extra: dict[str, Any] | None = None) -> str:
    exc_info = sys.exc_info() if sys.exc_info()[0] else None
    record = logging.getLogger("x").makeRecord(
        "x", logging.WARNING, __file__, 1, message, arguments, exc_info, extra=extra
    )
    return formatter("api", form).format(record)


def test_json_has_what_programs_look_for() -> None:
    with bound_contextvars(request_id="r1"):
        event = json.loads(line("json", "job %s", "claimed", extra={"job_id": "j1", "ms": 1.5}))
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "warning",
        "process": "api",
        "event": "job claimed",
        "job_id": "j1",
        "request_id": "r1",
        "ms": 1.5,
    }


def test_text_names_the_process_and_what_it_is_about() -> None:
    text = line("text", "request", extra={"route": "/jobs/{job_id}", "key": None, "why": "two words"})
    assert text[8:] == "    api  request  route=/jobs/{job_id} why='two words'"


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_that_comes_from_outside_makes_a_second_line(form: Form) -> None:
    for said in (line(form, "request", extra={"route": EVIL}), line(form, "trying again: %s", EVIL)):
        assert len(said.splitlines()) == 1
        assert "\x1b" not in said


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_belongs_to_its_event(form: Form) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        said = line(form, "a request failed")
    assert "RuntimeError: broken" in said
    assert form == "text" or "RuntimeError: broken" in json.loads(said)["exception"]
    try:
        raise RuntimeError("\x1b[2J")
    except RuntimeError:
        said = line(form, "a request failed")
    assert "\x1b" not in said
