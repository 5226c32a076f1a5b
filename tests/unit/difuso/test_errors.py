"""What is told in one line, and what keeps its traceback."""

from __future__ import annotations

import errno

import pytest
from safetensors import SafetensorError

from difuso.errors import UserError, machine_errors


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError(name="tensorboard"), "needs tensorboard, which is not installed: pip install "),
        (ModuleNotFoundError(name="dicebear.core"), "pip install -e '.[train]'"),
        (ModuleNotFoundError(name="torch"), "pip install -e '.[worker]'"),
        (ModuleNotFoundError(name="torch_fidelity"), "pip install -e '.[evaluate]'"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a"), "runs/a: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device"),
    ],
)
def test_what_the_machine_lacks_is_told_in_one_line(error: Exception, message: str) -> None:
    with pytest.raises(UserError) as told, machine_errors():
        raise error
    assert message in str(told.value)


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="difuso.nowhere"), ConnectionResetError(), ValueError("x")])
def test_mistakes_of_the_program_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as kept, machine_errors():
        raise error
    assert kept.value is error
