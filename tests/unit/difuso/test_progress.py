"""The progress of long work, whose title may name what others have named."""

import io
from functools import partial

import pytest
from rich.console import Console

from difuso import progress as shown

EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e[/red][bold]\ud800"


def test_a_title_is_shown_on_a_terminal_as_it_is_and_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    terminal = partial(Console, file=file, force_terminal=True, color_system=None, width=400)
    monkeypatch.setattr(shown, "Console", lambda **_: terminal())
    with shown.progress(EVIL) as report:
        report(1)
    said = file.getvalue()
    assert "[/red][bold]" in said
    assert not {"\x07", "\x9b", "\u202e", "\ud800"} & {*said}
    assert "\x1b]" not in said
    assert "\x1b[31m" not in said
