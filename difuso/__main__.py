"""The command `difuso`; also as `python -m difuso`, as which the supervisor starts processes, whatever is on PATH."""

from __future__ import annotations

import os
import signal
import sys

SERVICES = ("serve", "api", "worker")


def heed_signals() -> None:
    """From now on this process can be told to stop.

    Importing torch and warming models up takes many seconds, in which nothing is claimed that would have to be handed
    back; and as the first process of a container it would not even get a signal that it has no handler for.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


def main() -> None:
    """Runs a command. One that serves until it is told to stop can be told so from its first moment."""
    if sys.argv[1:2] and sys.argv[1] in SERVICES:
        heed_signals()
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
