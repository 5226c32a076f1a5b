"""One run: the reference, the attack, the time until everything has ended and expired, the verdict."""

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.report import say
from difuso.supervisor.child_processes import ChildProcesses

from .client import TIMEOUT, Clients, Errand, Hashes, reference, send
from .cluster import Cluster, End, Member, open_cluster
from .disk import SmallDisk, open_disk
from .faults import Saboteur
from .leftovers import files_left, keys_left
from .orders import draw_orders, draw_recipes
from .poison import chaos_model
from .receiver import Receiver, open_receiver
from .schedule import REDIS, Break, Habit, draw_faults
from .verdict import Evidence, Verdict, judge
from .worker_logs import Line, in_flight, read_log, waits

LONGEST_JOB = (
    2000  # seconds; more than any of a run may take (`app.requests.admission.job_timeout`), which keeps some keys
)
PATIENCE_SECONDS = 240.0  # from the last fault until all jobs must have ended
RESULT_TTL = 120  # seconds, longer than a job waits
SWEEP_MARGIN = 60  # seconds that files are kept longer than pictures are offered
MARGIN_SECONDS = 15.0
NOTICED_SECONDS = 5.0  # until everybody has noticed that a fault is over


@dataclass(frozen=True)
class Plan:
    """The size of a run; see the options of the program."""

    seconds: float
    seed: int
    rate: float
    habits: Mapping[Break, Habit]


def run(plan: Plan, *, claim_seconds: float, repeated: float, keep_logs: Path | None = None) -> Verdict:
    """Runs everything and returns the verdict."""
    with ChildProcesses() as children, open_disk(children.folder / "disk") as disk, open_receiver() as receiver:
        models = [chaos_model(children.folder / str(seed) / "chaos", seed=seed) for seed in range(2)]
        say("starting")
        with open_cluster(children, models, disk.store, ttl=RESULT_TTL) as cluster:
            attack = Attack(plan, cluster, disk, receiver)
            try:
                asyncio.run(attack.carry_out())
                _sweep(cluster)
            finally:
                if keep_logs is not None:
                    shutil.copytree(cluster.logs, keep_logs, dirs_exist_ok=True)
            evidence = attack.evidence()
    return judge(evidence, claim_seconds=claim_seconds, repeated=repeated)


class Attack:
    """The requests and faults of one run, and what is seen of them.

    Args:
        plan: the plan of the run.
        cluster: the cluster, running.
        disk: the disk with its store.
        receiver: the receiver of webhooks.
    """

    def __init__(self, plan: Plan, cluster: Cluster, disk: SmallDisk, receiver: Receiver) -> None:
        self._plan, self._cluster, self._disk, self._receiver = plan, cluster, disk, receiver
        self._recipes = draw_recipes(plan.seed)
        self._faults = draw_faults(plan.seconds, plan.seed, plan.habits)
        self._poison_at = [fault.at for fault in self._faults if fault.kind is Break.POISON]
        self._saboteur = Saboteur(cluster, disk)
        self._errands: list[Errand] = []
        self._reference: dict[tuple[str, int], Hashes] = {}
        self._executed = 0.0
        self._began_at = 0.0

    async def carry_out(self) -> None:
        """Runs the reference, the faults and the posts, and waits until everything has expired."""
        plan, cluster, recipes = self._plan, self._cluster, self._recipes
        orders = draw_orders(recipes, plan.seconds, plan.seed, rate=plan.rate, poison_at=self._poison_at)
        limits = httpx.Limits(max_connections=None, keepalive_expiry=2)
        async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits) as http:
            say("the reference: every recipe, undisturbed, by both versions of the model")
            for model in cluster.models[::-1]:  # the run begins with the first
                await asyncio.to_thread(cluster.give_all, model)
                self._reference |= await reference(Clients(http, cluster.urls, recipes))
            before = sum(cluster.steps_by_worker().values())
            say(f"{len(orders)} posts, {len(self._faults)} faults, {plan.seconds:.0f} s")
            keeper, begin, self._began_at = asyncio.create_task(cluster.keep()), time.monotonic(), time.time()
            clients = Clients(http, cluster.urls, recipes, self._receiver.url, self._errands)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._saboteur.run(self._faults, begin))
                group.create_task(send(clients, orders, begin, patience=PATIENCE_SECONDS))
            say(
                f"all has ended, or was given up, after {time.monotonic() - begin:.0f} s; waiting until it is forgotten"
            )
            self._executed = sum(cluster.steps_by_worker().values()) - before
            await asyncio.sleep(max(2 * RESULT_TTL, RESULT_TTL + SWEEP_MARGIN) + MARGIN_SECONDS)
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def evidence(self) -> Evidence:
        """Returns the evidence for the verdict, once all processes have ended."""
        cluster, breaks = self._cluster, Counter(str(fault.kind) for fault, _, _ in self._saboteur.done)
        workers, apis = _logs(cluster.workers, self._began_at), _logs(cluster.apis, self._began_at)
        ends = [end for member in (*cluster.workers, *cluster.apis) for end in member.ends]
        killed = [(workers[end.log], end.at) for end in ends if end.asked is signal.SIGKILL and end.log in workers]
        fatal = [errand for errand in self._errands if self._recipes[errand.wanted].fatal]
        poison = {job_id for errand in fatal for job_id in errand.ids}
        logs = list(workers.values())
        return Evidence(
            errands=self._errands,
            recipes=self._recipes,
            reference=self._reference,
            workers=logs,
            apis=list(apis.values()),
            waits=[wait for wait in waits(killed, logs) if wait.job_id not in poison],
            redis_away=self._saboteur.away(REDIS),
            store_full=self._saboteur.full,
            executed=self._executed,
            unsaved=self._saboteur.unsaved,
            unasked=[
                f"{end.log.stem}: {end.status}"
                for end in ends
                if not (_asked_for(end, self._saboteur.hindered(end.log)) or _killed_by(end, workers) & poison)
            ],
            killers={job_id for end in ends for job_id in _killed_by(end, workers) & poison},
            keys=keys_left(cluster.client, longest=LONGEST_JOB + 2 * RESULT_TTL),
            files=files_left(self._disk.store),
            called=self._receiver.taken,
            breaks={**breaks, Break.POISON.value: len(self._poison_at)},
        )


def _sweep(cluster: Cluster) -> None:
    """Lets new workers sweep at their start and stops them; whatever is left then stays for ever."""
    members = (*cluster.workers, *cluster.apis)
    cluster.stop(members)
    cluster.wait_until_served()
    time.sleep(MARGIN_SECONDS)
    cluster.stop(members)


def _logs(members: Sequence[Member], since: float) -> dict[Path, list[Line]]:
    """Returns the log of each process, without the reference, which came before."""
    logs = [log for member in members for log in member.all_logs]
    return {log: [line for line in read_log(log) if line.at >= since] for log in logs}


def _asked_for(end: End, hindered: Sequence[tuple[float, float]]) -> bool:
    """Returns whether a process ended as it should when we asked: killed, or cleanly.

    A worker that gets the signal to stop while Redis or the store is away, or that is frozen then, cannot hand its
    jobs back. It gives up, exits with 1, and leaves the jobs to recovery. A process that gets it while its
    interpreter still starts, and has written nothing, cannot heed the signal.
    """
    if end.asked is signal.SIGKILL or (end.asked is signal.SIGTERM and end.status == 0):
        return True
    if end.asked is signal.SIGTERM and end.status == 1:
        return any(began <= end.at <= ended + NOTICED_SECONDS for began, ended in hindered)
    return end.asked is signal.SIGTERM and end.status == -signal.SIGTERM and not end.log.stat().st_size


def _killed_by(end: End, workers: Mapping[Path, Sequence[Line]]) -> set[str]:
    """Returns the jobs that a worker ran when something other than the driver killed it; else none."""
    if end.status != -signal.SIGKILL or end.asked is signal.SIGKILL:
        return set()
    return in_flight(workers.get(end.log, ()))
