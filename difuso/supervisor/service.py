"""One child of the supervisor: started, restarted with growing pauses when it dies, stopped with time to finish."""

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from difuso.errors import UserError

log = logging.getLogger(__name__)

# Less than the silence after which the jobs of a dead worker go to another: the deaths by one job are that far apart,
# and end the job, not the service.
FAST_DEATH_SECONDS = 9.0
MAX_FAST_DEATHS = 4
POLL_SECONDS = 0.05
TICK_SECONDS = 0.1  # between two calls of `Service.revive`


class Service:
    """A child process and its state.

    Args:
        name: name in the log.
        start: starts a new process.
        drain_seconds: seconds that the process gets to finish after SIGTERM.
        needed: whether difuso cannot work without it.
    """

    def __init__(
        self, name: str, start: Callable[[], subprocess.Popen[bytes]], *, drain_seconds: float, needed: bool = True
    ) -> None:
        self.name = name
        self._start = start
        self._drain_seconds = drain_seconds
        self._needed = needed
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = self._kill_at = 0.0
        self._start_again_at: float | None = None
        self._fast_deaths = 0

    def start(self) -> None:
        """Starts the process."""
        self._start_again_at = None
        self._started_at = time.monotonic()
        self._process = self._start()
        log.info("started %s (process %d)", self.name, self._process.pid)

    def revive(self) -> None:
        """Starts the process again if it died and the pause is over; call it often.

        Raises UserError if the process has died MAX_FAST_DEATHS times soon after its start, and is needed.
        """
        if self._start_again_at is not None:
            if time.monotonic() >= self._start_again_at:
                self.start()
        elif self._process is not None and self._process.poll() is not None:
            self._note_death(self._process)

    def ask_to_stop(self) -> None:
        """Asks the process to finish; its time begins."""
        if self._process is not None and self._process.poll() is None:
            log.info("stopping %s", self.name)
            self._process.terminate()
            self._kill_at = time.monotonic() + self._drain_seconds

    def wait(self, hurried: Callable[[], bool]) -> None:
        """Waits until the process has ended; kills it when its time is over or `hurried` returns True."""
        while self._process is not None and self._process.poll() is None:
            if hurried() or time.monotonic() > self._kill_at:
                log.warning("%s has not finished: killed", self.name)
                self._process.kill()
                self._process.wait()
                return
            time.sleep(POLL_SECONDS)

    def _note_death(self, process: subprocess.Popen[bytes]) -> None:
        fast = time.monotonic() - self._started_at < FAST_DEATH_SECONDS
        self._fast_deaths = self._fast_deaths + 1 if fast else 1
        code = process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if self._fast_deaths >= MAX_FAST_DEATHS:
            reason = f"{self.name} cannot run: {how}, {self._fast_deaths} times in a row; see its log above"
            if self._needed:
                raise UserError(reason)
            log.error("%s. Going on without it; it may need more memory than there is", reason)
            self._process = None
            return
        pause = 0.25 * 2**self._fast_deaths
        log.warning("%s ended (%s); starting it again in %g s", self.name, how, pause)
        self._start_again_at = time.monotonic() + pause


def stop(services: Sequence[Service], hurried: Callable[[], bool]) -> None:
    """Asks services to finish at the same time, and returns when all have ended; see `Service.wait`."""
    for service in services:
        service.ask_to_stop()
    for service in services:
        service.wait(hurried)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects the signals that ask to stop. Its handler only records them, so no start is interrupted half-way."""
    received: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
