"""Commands with --server against a server that says what it likes: on the terminal, in files, in memory and in time."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from difuso import cli
from difuso.commands import evaluate_quality
from difuso.logs import formatter
from tests.colours import Colours
from tests.hostile_server import EVIL, SIDE, TASKS, Answer, Hostile, hostile_server, places, spoiled, truth

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = ("--steps", "2", "--seed", "7")
COMMANDS: dict[str, tuple[str, ...]] = {  # by the name that a test shows
    "sample": ("sample", "-n", "2", *OPTIONS),
    "sample --trace": ("sample", "-n", "2", *OPTIONS, "--trace", "last", "-o", "a.npz"),
    "sample many": ("sample", "-n", "2", *OPTIONS, "-o", "many.npz"),
    "sample --dry-run": ("sample", "-n", "2", *OPTIONS, "--dry-run"),
    "sample --condition": ("sample", "-n", "2", *OPTIONS, "--condition", "hair:bun"),
    "denoise": ("denoise", "a.png", *OPTIONS),
    "restore": ("restore", "colorize", "a.png", *OPTIONS),
    "upscale": ("upscale", "a.png", *OPTIONS),
    "interpolate": ("interpolate", "a.png", "a.png", "--lambda", "0.25", "--lambda", "0.5", *OPTIONS),
    "evaluate quality": ("evaluate", "quality", "ddim:2", "--images", "24", "--reference", "real", "--out", "figures"),
    "evaluate conditions": ("evaluate", "conditions", "tiny", "--data", "faces64", "--images", "2", "--out", "figures"),
}
EVILS: tuple[Any, ...] = (EVIL, None, -1, 10**400, [[]], {EVIL: EVIL}, "/etc/evil")
NAME = re.compile(r"tiny-7(-2)?(-[a-z0-9.]+)*\.png|tiny-8(-2)?(-[a-z0-9.]+)*\.png")

Run = Callable[..., str]


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def run(
    hostile: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs a command in a folder of its own, and returns all that it wrote to the terminal."""
    folder = tmp_path / "below" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(evaluate_quality, "EfficientNetLite0", lambda device: Colours())
    Image.new("RGB", (SIDE, SIDE), "red").save("a.png")
    (folder / "real").mkdir()
    for number in range(24):
        Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(folder / "real" / f"{number}.png")
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    handler.setFormatter(formatter("sample", "text"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("difuso").setLevel(logging.INFO)

    def run(*command: str, fails: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["difuso", *command, "--server", hostile.url])
        with pytest.raises(SystemExit) as ended:
            cli.main()  # any error but a UserError would be a traceback
        printed, lines = capsys.readouterr(), logged.getvalue()
        logged.truncate(0)
        logged.seek(0)
        assert bool(ended.value.code) == fails or not fails, printed
        return printed.out + printed.err + lines

    yield run
    logging.getLogger().removeHandler(handler)
    logging.getLogger("difuso").setLevel(logging.NOTSET)


def check_terminal(said: str) -> None:
    assert all(each.isprintable() or each == "\n" for each in said), repr(said)
    assert len(said) < 20_000


def check_files(folder: Path) -> None:
    """All files are where the command was asked to write, and pictures have the names of their model and seed."""
    top = folder / "below" / "work"
    written = [path.relative_to(top) for path in folder.rglob("*") if path.is_file()]
    assert {path.parts[0] for path in written} <= {"a.png", "real", "pictures", "a.npz", "many.npz", "figures"}
    for path in written:
        if path.parts[0] == "pictures":
            assert NAME.fullmatch("/".join(path.parts[1:])), path


def kind_of(name: str) -> str:
    return next((kind for kind in TASKS if name.startswith(kind)), "generate")


def with_server(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields the commands that take --server."""
    for name, each in getattr(command, "commands", {}).items():
        yield from with_server(each, (*path, name))
    if "server" in {parameter.name for parameter in command.params}:
        yield " ".join(path)


def test_all_commands_with_a_server_are_walked() -> None:
    walked = {" ".join(command[:2]) if command[0] == "evaluate" else command[0] for command in COMMANDS.values()}
    assert walked == {*with_server(get_command(cli.app))}


def reset(hostile: Hostile, name: str) -> None:
    hostile.reset(kind_of(name), count=24 if name == "evaluate quality" else 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_truth_is_taken(hostile: Hostile, run: Run, tmp_path: Path, name: str) -> None:
    reset(hostile, name)
    said = run(*COMMANDS[name])
    check_terminal(said)
    check_files(tmp_path)
    assert ("faces64 has images of" in said) if name == "evaluate conditions" else "difuso:" not in said, said


def spoil(hostile: Hostile, run: Run, folder: Path, name: str, said: str, content: Any) -> None:
    """Runs a command on a server that says this once."""
    reset(hostile, name)
    hostile.said[said] = content
    try:
        printed = run(*COMMANDS[name])
    except Exception as error:
        raise AssertionError(f"{said}: {content!r}: {error!r}") from error
    check_terminal(printed)
    check_files(folder)
    for file in ("a.npz", "many.npz"):
        Path(file).unlink(missing_ok=True)


def all_spoiled(value: Any) -> Any:
    """Returns a value of JSON with EVIL at the end of each text."""
    if isinstance(value, dict):
        return {name: all_spoiled(each) for name, each in value.items()}
    if isinstance(value, list):
        return [all_spoiled(each) for each in value]
    return value + EVIL if isinstance(value, str) else value


@pytest.mark.parametrize("name", COMMANDS)
def test_texts_of_a_server_are_printable_and_name_no_file_elsewhere(
    hostile: Hostile, run: Run, tmp_path: Path, name: str
) -> None:
    for said, whole in truth(kind_of(name)).items():
        spoil(hostile, run, tmp_path, name, said, all_spoiled(whole))


def test_a_job_with_a_part_that_is_wrong_or_missing_ends_in_a_sentence(
    hostile: Hostile, run: Run, tmp_path: Path
) -> None:
    job = truth("generate")["job"]
    for part in job:
        spoil(hostile, run, tmp_path, "sample", "job", job | {part: f"../{EVIL}"})
        spoil(hostile, run, tmp_path, "sample", "job", {each: value for each, value in job.items() if each != part})


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_values_of_any_kind_end_in_a_sentence(hostile: Hostile, run: Run, tmp_path: Path, name: str) -> None:
    """Each command meets a third of the places, and each place another value in each command that meets it."""
    first = list(COMMANDS).index(name)
    for said, whole in truth(kind_of(name)).items():
        for number, place in enumerate(places(whole)):
            if (first + number) % 3 == 0:
                evil = EVILS[(first // 3 + number) % len(EVILS)]
                spoil(hostile, run, tmp_path, name, said, spoiled(whole, place, evil))


HOSTILE_HEADS: dict[str, Answer] = {
    "reason": Answer({}, status=418, reason="no \x1b[31m\x07 tea"),
    "type": Answer({}, f"application/json; charset={EVIL[:8]}", status=500),
    "problem": Answer(
        dict.fromkeys(("type", "title", "detail", "instance", "code", "request_id"), EVIL)
        | {"errors": [{EVIL: EVIL}], "status": EVIL},
        "application/problem+json",
        status=422,
    ),
    "long problem": Answer({"detail": "x" * 500_000}, "application/problem+json", status=422),
    "deep problem": Answer(b"[" * 100_000, "application/problem+json", status=422),
    "redirect": Answer(b"", status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"}),
    "deep": Answer(b"[" * 1_000_000),
    "long number": Answer(b'{"models": ' + b"9" * 10_000 + b"}"),
    "nothing": Answer(b"", status=204),
    "not UTF-8": Answer(b"\xff\xfe\xfa"),
}


@pytest.mark.parametrize("head", HOSTILE_HEADS)
def test_errors_of_a_server_are_printable(hostile: Hostile, run: Run, head: str) -> None:
    answer = HOSTILE_HEADS[head]
    # Other text in place of events is taken for a proxy's, which answers for a server that restarts.
    for asked in ("/models", "/generate", "/image", *(() if answer.status < 300 else ("/events",))):
        hostile.say(answer, asked)
        check_terminal(run(*COMMANDS["sample"], fails=True))


def test_a_key_goes_to_the_server_that_was_named_and_to_no_other(
    hostile: Hostile, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFUSO_API_KEY", "secret")
    paths = ("/models", "/generate", "/events", "/image")
    with hostile_server() as other:
        for status, asked in [
            *zip((301, 302, 303, 307, 308), cycle(paths), strict=False),
            (307, "/models"),
            (307, "/generate"),
        ]:
            hostile.say(Answer(b"", status=status, headers={"Location": f"{other.url}/models"}), asked)
            run(*COMMANDS["sample"], fails=True)
        hostile.reset("generate")
        links = {name: f"{other.url}/{name}" for name in ("self", "events", "image")}
        for said in ("job", "ended"):
            hostile.said[said] = hostile.said[said] | {"links": {**links, "images": [f"{other.url}/0"]}}
        assert "tiny-7.png" in run(*COMMANDS["sample"])
        assert other.asked == []
    assert hostile.asked[-1][2]["Authorization"] == "Bearer secret"
