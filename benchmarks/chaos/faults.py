"""How each thing is broken and mended."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import say

from .cluster import Cluster, Member
from .disk import SmallDisk
from .schedule import REDIS, STORE, Break, Fault

REFILL_SECONDS = 0.2


@dataclass
class Saboteur:
    """Carries out faults when they are due.

    Attributes:
        done: the faults so far, with their beginning and end in seconds since the epoch.
        full: when the store's disk had no byte free, in seconds since the epoch.
        frozen: the logs of the frozen processes, with beginning and end of each freeze.
        versions: the number of the model's version of each process that has changed, by name.
    """

    cluster: Cluster
    disk: SmallDisk
    done: list[tuple[Fault, float, float]] = field(default_factory=list)
    full: list[tuple[float, float]] = field(default_factory=list)
    frozen: list[tuple[Path, float, float]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)

    async def run(self, faults: Sequence[Fault], begin: float) -> None:
        """Carries out all faults when they are due; returns when everything works again.

        Args:
            begin: the beginning of the run, on the monotonic clock.
        """
        ways: Mapping[Break, Callable[[Fault], Awaitable[None]]] = {
            Break.KILL: self._kill_worker,
            Break.TERM: self._end_worker,
            Break.FREEZE: self._freeze_worker,
            Break.API_KILL: self._kill_api,
            Break.REDIS_KILL: self._kill_redis,
            Break.REDIS_FREEZE: self._freeze_redis,
            Break.REDIS_PAUSE: self._pause_redis,
            Break.VERSION: self._change_version,
            Break.STORE_FULL: self._fill_store,
            Break.STORE_FULL_LONG: self._fill_store,
            Break.STORE_READ_ONLY: self._protect_store,
        }

        async def carry_out(fault: Fault) -> None:
            await asyncio.sleep(begin + fault.at - time.monotonic())
            began = time.time()
            say(f"{fault.at:6.1f} s  {fault.kind}{f' for {fault.seconds:.1f} s' if fault.seconds else ''}")
            await ways[fault.kind](fault)
            self.done.append((fault, began, time.time()))

        async with asyncio.TaskGroup() as group:
            for fault in faults:
                if fault.kind in ways:  # poison comes by post
                    group.create_task(carry_out(fault))

    def away(self, kinds: Collection[Break]) -> list[tuple[float, float]]:
        """Returns when there were faults of these kinds, in seconds since the epoch."""
        return [(began, ended) for fault, began, ended in self.done if fault.kind in kinds]

    def hindered(self, log: Path) -> list[tuple[float, float]]:
        """Returns when the process of this log could not hand its jobs back, in seconds since the epoch."""
        return self.away((*REDIS, *STORE)) + [(began, ended) for frozen, began, ended in self.frozen if frozen == log]

    async def _kill_worker(self, fault: Fault) -> None:
        _pick(self.cluster.workers, fault).send(signal.SIGKILL)

    async def _end_worker(self, fault: Fault) -> None:
        _pick(self.cluster.workers, fault).send(signal.SIGTERM)

    async def _freeze_worker(self, fault: Fault) -> None:
        worker, began = _pick(self.cluster.workers, fault), time.time()
        process, log = worker.send(signal.SIGSTOP), worker.log
        await asyncio.sleep(fault.seconds)
        process.send_signal(signal.SIGCONT)  # does nothing if the process was killed meanwhile
        self.frozen.append((log, began, time.time()))

    async def _kill_api(self, fault: Fault) -> None:
        _pick(self.cluster.apis, fault).send(signal.SIGKILL)

    async def _kill_redis(self, fault: Fault) -> None:
        self.cluster.signal_redis(signal.SIGKILL)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self.cluster.restart_redis)

    async def _freeze_redis(self, fault: Fault) -> None:
        self.cluster.signal_redis(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        self.cluster.signal_redis(signal.SIGCONT)

    async def _pause_redis(self, fault: Fault) -> None:
        self.cluster.client.client_pause(round(1000 * fault.seconds))
        await asyncio.sleep(fault.seconds)

    async def _change_version(self, fault: Fault) -> None:
        """Gives one process, of the front ends too, the version of the model that it does not have."""
        member = _pick((*self.cluster.workers, *self.cluster.apis), fault)
        self.versions[member.name] = 1 - self.versions.get(member.name, 0)
        await asyncio.to_thread(member.take, self.cluster.models[self.versions[member.name]])

    async def _fill_store(self, fault: Fault) -> None:
        await asyncio.to_thread(self.disk.fill)
        began = time.time()
        while time.time() < began + fault.seconds:
            await asyncio.sleep(REFILL_SECONDS)
            await asyncio.to_thread(self.disk.fill)
        self.full.append((began, time.time()))
        await asyncio.to_thread(self.disk.free)

    async def _protect_store(self, fault: Fault) -> None:
        await asyncio.to_thread(self.disk.protect)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self.disk.unprotect)


def _pick(members: Sequence[Member], fault: Fault) -> Member:
    return members[fault.target % len(members)]
