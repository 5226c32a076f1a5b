"""What is said in one line, and what keeps its traceback."""

from __future__ import annotations

import errno
import json
from types import SimpleNamespace

import pytest

from difuso.errors import UserError, installing, machine_errors, require


def test_a_file_that_cannot_be_written_is_named_in_one_line() -> None:
    with pytest.raises(UserError, match="runs/a: Permission denied"), machine_errors():
        raise PermissionError(errno.EACCES, "Permission denied", "runs/a")


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("sample", "redis", "worker"),
        ("api", "redis", "api"),
        ("train", "dicebear.core", "train"),
        ("train", "datasets", "huggingface"),
        (None, "torch", "worker"),
    ],
)
def test_a_command_names_the_extra_that_has_all_of_what_it_needs(command: str | None, module: str, extra: str) -> None:
    message = rf"needs {module.partition('.')[0]}, which is not installed: pip install .*\[{extra}\]"
    with pytest.raises(UserError, match=message), machine_errors(command):
        raise ModuleNotFoundError(name=module)


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (
            {"url": "file:///home/a%20b/difuso", "dir_info": {"editable": True}},
            "pip install -e '/home/a b/difuso[train]'",
        ),
        ({"url": "file:///tmp/difuso.whl"}, "pip install 'difuso[train] @ file:///tmp/difuso.whl'"),
        (
            {"url": "https://git.example/difuso", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "pip install 'difuso[train] @ git+https://git.example/difuso@abc'",
        ),
        (None, "pip install 'difuso[train]'"),
    ],
)
def test_advice_names_the_place_that_difuso_was_installed_from(
    monkeypatch: pytest.MonkeyPatch, origin: object, command: str
) -> None:
    """Nothing else would do: no index has difuso."""
    there = SimpleNamespace(read_text=lambda name: None if origin is None else json.dumps(origin))
    monkeypatch.setattr("difuso.errors.distribution", lambda name: there)
    assert installing("train") == command


def test_a_command_whose_processes_lack_a_package_says_so_before_it_starts_them() -> None:
    require("standalone", "json")
    with pytest.raises(UserError, match=r"this command needs nowhere_to_be, which is not installed: .*\[standalone\]"):
        require("standalone", "nowhere_to_be")


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="difuso.nowhere"), ConnectionResetError(), ValueError("x")])
def test_mistakes_of_the_program_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as kept, machine_errors():
        raise error
    assert kept.value is error
