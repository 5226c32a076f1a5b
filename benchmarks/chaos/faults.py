"""How each thing is broken and mended."""

import asyncio
import signal
import time
from collections.abc import Collection, Sequence
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
        unsaved: the image-steps of workers that ended while the store took no snapshots, made since it took the last.
    """

    cluster: Cluster
    disk: SmallDisk
    done: list[tuple[Fault, float, float]] = field(default_factory=list)
    full: list[tuple[float, float]] = field(default_factory=list)
    frozen: list[tuple[Path, float, float]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    unsaved: float = 0.0

    async def run(self, faults: Sequence[Fault], begin: float) -> None:
        """Carries out all faults when they are due; returns when everything works again.

        Args:
            begin: the beginning of the run, on the monotonic clock.
        """

        async def carry_out(fault: Fault) -> None:
            await asyncio.sleep(begin + fault.at - time.monotonic())
            began = time.time()
            say(f"{fault.at:6.1f} s  {fault.kind}{f' for {fault.seconds:.1f} s' if fault.seconds else ''}")
            await self._break(fault)
            self.done.append((fault, began, time.time()))

        async with asyncio.TaskGroup() as group:
            for fault in faults:
                if fault.kind is not Break.POISON:  # which comes by post
                    group.create_task(carry_out(fault))

    def away(self, kinds: Collection[Break]) -> list[tuple[float, float]]:
        """Returns when there were faults of these kinds, in seconds since the epoch."""
        return [(began, ended) for fault, began, ended in self.done if fault.kind in kinds]

    def hindered(self, log: Path) -> list[tuple[float, float]]:
        """Returns when the process of this log could not hand its jobs back, in seconds since the epoch."""
        return self.away((*REDIS, *STORE)) + [(began, ended) for frozen, began, ended in self.frozen if frozen == log]

    async def _break(self, fault: Fault) -> None:
        """Breaks a thing, and mends it when the fault is over; what was killed is started again by the cluster."""
        workers, apis = self.cluster.workers, self.cluster.apis
        match fault.kind:
            case Break.KILL:
                _pick(workers, fault).send(signal.SIGKILL)
            case Break.TERM:
                _pick(workers, fault).send(signal.SIGTERM)
            case Break.FREEZE:
                worker, began = _pick(workers, fault), time.time()
                process, log = worker.send(signal.SIGSTOP), worker.log
                await asyncio.sleep(fault.seconds)
                process.send_signal(signal.SIGCONT)  # does nothing if the process was killed meanwhile
                self.frozen.append((log, began, time.time()))
            case Break.API_KILL:
                _pick(apis, fault).send(signal.SIGKILL)
            case Break.REDIS_KILL:
                self.cluster.signal_redis(signal.SIGKILL)
                await asyncio.sleep(fault.seconds)
                await asyncio.to_thread(self.cluster.restart_redis)
            case Break.REDIS_FREEZE:
                self.cluster.signal_redis(signal.SIGSTOP)
                await asyncio.sleep(fault.seconds)
                self.cluster.signal_redis(signal.SIGCONT)
            case Break.REDIS_PAUSE:
                self.cluster.client.client_pause(round(1000 * fault.seconds))
                await asyncio.sleep(fault.seconds)
            case Break.VERSION:
                member = _pick((*workers, *apis), fault)
                self.versions[member.name] = 1 - self.versions.get(member.name, 0)
                await asyncio.to_thread(member.take, self.cluster.models[self.versions[member.name]])
            case Break.STORE_READ_ONLY | Break.STORE_FULL | Break.STORE_FULL_LONG:
                before = self.cluster.steps_by_worker()
                if fault.kind is Break.STORE_READ_ONLY:
                    await self._protect_store(fault.seconds)
                else:
                    await self._fill_store(fault.seconds)
                made, alive = self.cluster.steps_by_worker(), {worker.pid for worker in workers}
                self.unsaved += sum(steps - before.get(pid, 0.0) for pid, steps in made.items() if pid not in alive)

    async def _protect_store(self, seconds: float) -> None:
        await asyncio.to_thread(self.disk.protect)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.disk.unprotect)

    async def _fill_store(self, seconds: float) -> None:
        await asyncio.to_thread(self.disk.fill)
        began = time.time()
        while time.time() < began + seconds:
            await asyncio.sleep(REFILL_SECONDS)
            await asyncio.to_thread(self.disk.fill)
        self.full.append((began, time.time()))
        await asyncio.to_thread(self.disk.free)


def _pick(members: Sequence[Member], fault: Fault) -> Member:
    return members[fault.target % len(members)]
