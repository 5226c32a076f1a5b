"""The watchdog: ends the process when one of its threads hangs, so that other workers get its jobs."""

import faulthandler
import logging
import os
import time
from collections.abc import Callable, Iterable
from threading import Thread

from ..stepping.runner import Runner

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
CALL_SECONDS = 120.0  # more than twice the time until a call to Redis fails after all its retries
STEP_SECONDS = 60.0


def watch(name: str, sign: Callable[[], object], patience: Callable[[], float]) -> None:
    """Starts a thread that ends the process once another thread has shown no activity for too long.

    It looks every second and counts the looks. A clock would count the time in which the process was stopped, too.

    Args:
        sign: returns a value that keeps changing while the thread lives.
        patience: returns the longest time without a change, in seconds.
    """
    Thread(target=_watch, args=(name, sign, patience), name=f"watchdog of the {name}", daemon=True).start()


def step_patience(runners: Iterable[Runner]) -> float:
    """Returns the patience with the engine: above a minute only where a full batch takes more than 3 s."""
    return max([STEP_SECONDS, *(20 * runner.slots / runner.rate for runner in runners)])


def _watch(name: str, sign: Callable[[], object], patience: Callable[[], float]) -> None:
    last, quiet = sign(), 0.0
    while quiet <= patience():
        time.sleep(TICK_SECONDS)
        now = sign()
        last, quiet = now, quiet + TICK_SECONDS if now == last else 0.0
    log.error("worker exits: its %s has done nothing for %.0f s; all threads stand at:", name, quiet)
    faulthandler.dump_traceback()
    os._exit(1)
