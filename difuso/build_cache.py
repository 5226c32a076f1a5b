"""The folder where torch keeps its builds: C++ and machine code that later builds run."""

import atexit
import os
import shutil
import stat
import tempfile
from pathlib import Path

from .errors import UserError

SETTING = "TORCHINDUCTOR_CACHE_DIR"


def keep_builds_private() -> None:
    """Lets torch build in a folder that nobody else can use, unless the environment names one.

    By itself torch builds below the system's temporary folder, under a name that anybody can guess. Another user could
    make that folder first, and change the code there. Ours is in the user's cache. Where that cannot be
    written, it is a temporary folder, which is gone at the end.

    Raises UserError if the folder in the user's cache belongs to somebody else, or others can use it.
    """
    if os.environ.get(SETTING):
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "difuso" / "torch"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        folder = Path(tempfile.mkdtemp(prefix="difuso-torch-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise UserError(
            f"others can use {folder}, where torch would build and run code: remove it, or set {SETTING} to a folder "
            "of your own"
        )
    os.environ[SETTING] = str(folder.absolute())
