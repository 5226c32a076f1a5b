"""A pickle that shows whether somebody has unpickled it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class Canary:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)
