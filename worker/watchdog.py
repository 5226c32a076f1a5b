"""The watchdog: ends the process when one of its threads hangs, so that other workers are given its jobs."""

from __future__ import annotations

import faulthandler
import logging
import os
import time
from collections.abc import Callable, Iterable
from threading import Thread

from .runner import Runner

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
CALL_SECONDS = 120.0
STEP_SECONDS = 60.0


def watch(name: str, sign: Callable[[], object], patience: Callable[[], float]) -> None:
    """From now on looks every second whether a thread does anything.

    Looks are counted instead of asking a clock: a process that was stopped for a while has not hung.

    Args:
        name: of the thread, for people.
        sign: of life: something that changes again and again while the thread lives.
        patience: seconds without a change that are still no reason for alarm.
    """
    Thread(target=_watch, args=(name, sign, patience), name=f"watchdog of the {name}", daemon=True).start()


def call_patience() -> float:
    """Of a thread that asks Redis: more than twice as long as it takes a call to give up after all its tries."""
    return CALL_SECONDS


def step_patience(runners: Iterable[Runner]) -> float:
    """Of the engine: more than a minute only on devices where a full batch takes more than 3 s."""
    return max(STEP_SECONDS, *(20 * runner.slots / runner.rate for runner in runners))


def _watch(name: str, sign: Callable[[], object], patience: Callable[[], float]) -> None:
    last, quiet = sign(), 0.0
    while quiet <= patience():
        time.sleep(TICK_SECONDS)
        now = sign()
        last, quiet = now, quiet + TICK_SECONDS if now == last else 0.0
    log.error("worker exits: its %s has done nothing for %.0f s; all threads stand at:", name, quiet)
    faulthandler.dump_traceback()
    os._exit(1)
