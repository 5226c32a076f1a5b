"""The command `difuso`, also `python -m difuso`: in that form the supervisor starts processes, whatever is on PATH."""

import os
import signal
import sys

SERVICES = ("serve", "api", "worker")


def heed_signals() -> None:
    """Makes SIGTERM and SIGINT end this process at once.

    Importing torch and warming models up takes many seconds. No job is claimed in that time, so none must be handed
    back. Without a handler, the first process of a container would ignore both signals.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


def main() -> None:
    """Runs a command. A service can be stopped from its first moment."""
    if sys.argv[1:2] and sys.argv[1] in SERVICES:
        heed_signals()
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
