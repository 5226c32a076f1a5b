"""Claims, hand-over and recovery in one process, on a real Redis: each step may be cut off, repeated or too late."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.executions import Execution

from jobs import keys
from jobs.contract import Job, JobState
from jobs.params import SamplingParams
from jobs.queue import JobQueue
from jobs.rq_job import LONE_RETRIES, MAX_DEATHS, MAX_RETRIES, DataJob
from worker import recovery
from worker.active import ActiveJob
from worker.claims import Claims
from worker.held_jobs import RunningJob
from worker.outcomes import Outcomes
from worker.recovery import EXECUTION_TTL, RECOVERY_SECONDS, SILENT_SECONDS, Recovery
from worker.rq_base import RqBase
from worker.runner import Runner

QUEUE = keys.queue_name("tiny", 3)
SLOTS = 8


class Lossy(redis.UnixDomainSocketConnection):
    """Loses the reply to one transaction, which Redis has carried out."""

    armed = False
    lost = 0

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._sent = b"".join(command) if isinstance(command, list) else bytes(command)
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().read_response(*args, **kwargs)
        if Lossy.armed and b"EXEC" in self._sent and isinstance(response, list):
            Lossy.armed, Lossy.lost = False, Lossy.lost + 1
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError("the reply was lost")
        return response


class Clock:
    """Time as recovery sees it."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now

    monotonic = time


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """As a worker has it: redis-py sends a command again by itself if its connection broke."""
    path = redis_url.removeprefix("unix://").partition("?")[0]
    pool = redis.ConnectionPool(connection_class=Lossy, path=path, retry=Retry(NoBackoff(), 2))
    with redis.Redis(connection_pool=pool) as client:
        yield client
    pool.disconnect()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recovery, "time", clock)
    return clock


@pytest.fixture
def queue(client: redis.Redis) -> JobQueue:
    return JobQueue(client, result_ttl=60)


@pytest.fixture
def worker(client: redis.Redis) -> RqBase:
    worker = RqBase(client, [QUEUE], name=f"difuso-{uuid.uuid4().hex[:12]}")
    worker.register()
    return worker


@pytest.fixture
def claims(client: redis.Redis) -> Claims:
    runner = cast(Runner, SimpleNamespace(slots=SLOTS))
    return Claims(client, {"tiny": runner})


def submit(queue: JobQueue) -> str:
    params = SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=str(uuid.uuid4()), model="tiny", params=params, accepted_at=time.time(), timeout=60)
    assert queue.submit(job, request_hash="")
    return job.id


def start(worker: RqBase, claims: Claims, *, suspects: bool = False) -> tuple[DataJob, Execution]:
    (waiting,) = worker.queues
    job = claims.pop(waiting, "suspect" if suspects else "other")
    assert job is not None
    execution = worker.start(job, waiting)
    assert execution is not None
    return job, execution


def waiting(worker: RqBase) -> list[str]:
    entries: list[Any] = worker.connection.lrange(worker.queues[0].key, 0, -1)
    return [entry.decode() for entry in entries]


def look(recovery: Recovery, worker: RqBase, clock: Clock, seconds: float) -> list[str]:
    """Lets so much time pass in which Redis answers."""
    given_up = []
    until = clock.now + seconds
    while clock.now < until:
        clock.now += RECOVERY_SECONDS
        given_up += recovery.run(worker.queues)
    return given_up


@pytest.mark.parametrize("at_front", [True, False])
def test_a_job_is_handed_back_once_though_the_reply_was_lost(
    queue: JobQueue, worker: RqBase, claims: Claims, *, at_front: bool
) -> None:
    first, second = submit(queue), submit(queue)
    job, execution = start(worker, claims)
    lost = Lossy.lost
    Lossy.armed = True
    worker.insist(lambda: worker.hand_back(job, worker.queues[0], execution, at_front=at_front))
    assert Lossy.lost == lost + 1
    assert waiting(worker) == ([first, second] if at_front else [second, first])
    assert queue.status(first).state is JobState.QUEUED
    assert worker.connection.zcard(worker.queues[0].started_job_registry.key) == 0


def test_a_job_is_handed_back_though_redis_came_back_empty(worker: RqBase, queue: JobQueue, claims: Claims) -> None:
    job_id = submit(queue)
    job, execution = start(worker, claims)
    worker.connection.flushall()
    for _ in range(2):
        worker.insist(lambda: worker.hand_back(job, worker.queues[0], execution))
    assert waiting(worker) == [job_id]


def test_after_an_outage_the_dead_are_told_from_those_who_could_not_speak(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """All marks of life are as old. Whoever lives gives another, the job of the other goes to the front."""
    lives, dies = submit(queue), submit(queue)
    alive, _ = start(worker, claims), start(worker, claims)
    waits = submit(queue)
    observer = Recovery(client)
    look(observer, worker, clock, RECOVERY_SECONDS)
    clock.now += 100 * EXECUTION_TTL
    look(observer, worker, clock, SILENT_SECONDS / 2)
    assert waiting(worker) == [waits], "so soon after the outage nobody is known to be dead"
    client.zadd(
        worker.queues[0].started_job_registry.key, {alive[1].composite_key: clock.now + EXECUTION_TTL}
    )  # a beat
    look(observer, worker, clock, SILENT_SECONDS)
    assert waiting(worker) == [dies, waits]
    assert queue.status(dies).state is JobState.QUEUED
    assert queue.status(lives).state is JobState.RUNNING
    assert worker.owns(*alive)


def test_a_redis_that_stumbles_again_and_again_delays_recovery_only_while_it_is_away(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    job_id = submit(queue)
    start(worker, claims)
    observer = Recovery(client)
    for _ in range(int(2 * SILENT_SECONDS / RECOVERY_SECONDS)):
        clock.now += EXECUTION_TTL
        observer.run(worker.queues)
    assert waiting(worker) == [job_id]


def test_of_several_observers_one_gives_a_job_back(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    job_id = submit(queue)
    start(worker, claims)
    observers = [Recovery(client) for _ in range(3)]
    for _ in range(20):
        clock.now += RECOVERY_SECONDS
        for observer in observers:
            observer.run(worker.queues)
    assert waiting(worker) == [job_id]
    assert queue.status(job_id).attempts == 1


def test_a_job_that_was_popped_and_never_started_goes_back(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    popped, waits = submit(queue), submit(queue)
    assert claims.pop(worker.queues[0], "other") is not None
    look(Recovery(client), worker, clock, EXECUTION_TTL)
    assert waiting(worker) == [popped, waits]
    assert queue.status(popped).attempts == 0, "it never ran"


def test_without_progress_a_job_has_its_tries_and_the_last_ones_alone(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    job_id = submit(queue)
    for tries in range(MAX_RETRIES, -1, -1):
        job, _ = start(worker, claims, suspects=tries <= LONE_RETRIES)
        assert job.is_suspect == (tries <= LONE_RETRIES)
        worker.credit(job, 0)
        given_up = look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    assert given_up == [job_id]
    assert queue.status(job_id).state is JobState.FAILED
    assert queue.status(job_id).attempts == 1 + MAX_RETRIES
    assert waiting(worker) == []


def test_a_start_that_made_progress_does_not_count(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """But no job goes on for ever, however it pretends."""
    job_id = submit(queue)
    for death in range(MAX_DEATHS + 1):
        job, _ = start(worker, claims)
        worker.credit(job, death)
        assert not job.is_suspect
        given_up = look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
        assert given_up == ([] if death < MAX_DEATHS else [job_id])


def test_a_busy_worker_leaves_suspects_to_others_and_makes_room_if_nobody_is_idle(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    suspect, other = submit(queue), submit(queue)
    client.hset(DataJob.key_for(suspect), "retries_left", LONE_RETRIES)
    (queued,) = worker.queues
    taken = claims.pop(queued, "other")
    assert taken is not None
    assert taken.id == other
    active = active_job()
    claims.make_room([queued], [active])
    assert claims.has_room(queued, [held(queued, active)])
    claims.make_room([queued], [active])
    assert active.release, "nobody has taken it"
    assert not claims.has_room(queued, [held(queued, active)])
    taken = claims.pop(queued, "suspect")
    assert taken is not None
    assert taken.id == suspect


def test_an_orphan_waits_for_no_slot(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """The other workers may be full for minutes. But one alone must not take what a whole fleet has left behind."""
    (queued,) = worker.queues
    orphans = [submit(queue) for _ in range(SLOTS + 1)]
    for _ in orphans:
        start(worker, claims)
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    submit(queue)
    full = [held(queued, active_job()) for _ in range(SLOTS)]
    assert list(claims.choose([queued], lambda: full)) == []
    claimed = []
    for job, _ in claims.choose([queued], lambda: full, crowded=True):
        claimed.append(job.id)
        full.append(held(queued, active_job()))
    assert len(claimed) == SLOTS
    assert set(claimed) < set(orphans)


def test_an_idle_worker_takes_a_suspect_before_the_orphans_and_nothing_beside_it(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """An orphan that is claimed first would keep the suspect waiting, or would fail with it."""
    (queued,) = worker.queues
    orphan = submit(queue)
    start(worker, claims)
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    suspect = submit(queue)
    client.hset(DataJob.key_for(suspect), "retries_left", LONE_RETRIES)
    assert claims.has_news([queued], [], [], crowded=True)
    taken = list(claims.choose([queued], list, crowded=True))
    assert [job.id for job, _ in taken] == [suspect]
    left = claims.pop(queued, "orphan")
    assert left is not None
    assert left.id == orphan


def test_beside_a_suspect_nothing_is_claimed(worker: RqBase, claims: Claims) -> None:
    (queued,) = worker.queues
    active = active_job()
    assert claims.has_room(queued, [held(queued, active)])
    active.alone = True
    assert not claims.has_room(queued, [held(queued, active)])
    claims.make_room([queued], [active])
    claims.make_room([queued], [active])
    assert not active.release


@pytest.mark.parametrize("arrived", [True, False])
def test_a_job_whose_end_got_no_reply_is_ours_unless_it_was_given_away(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock, arrived: bool
) -> None:
    """Redis breaks off while a worker ends its job: the end went through, or others took the job and ended it."""
    submit(queue)
    (queued,) = worker.queues
    job, execution = start(worker, claims)
    other = RqBase(client, [QUEUE], name=f"difuso-{uuid.uuid4().hex[:12]}")
    other.register()
    tries = 0

    def write(*args: object, **kwargs: object) -> None:
        nonlocal tries
        tries += 1
        if tries > 1:
            return
        if arrived:
            worker.succeed(job, queued, execution, {"images": 1})
        else:
            look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
            again, started = start(other, claims)
            other.succeed(again, queued, started, {"images": 1})
        raise redis.ConnectionError("the reply was lost")

    reporter = SimpleNamespace(write=write, ended=lambda job: None)
    metrics = SimpleNamespace(retried=lambda how: None, finished=lambda active, outcome: None)
    writers = SimpleNamespace(forget=lambda job_id: None)
    outcomes = Outcomes(worker, cast(Any, reporter), cast(Any, writers), cast(Any, metrics))
    item = RunningJob(
        job, queued, execution, cast(Any, SimpleNamespace(job=SimpleNamespace(id=job.id, trail={}, answers=1)))
    )
    outcome = outcomes.succeed(item, cast(Any, SimpleNamespace(seconds=0.0)))
    assert outcome == ("succeeded" if arrived else "lost")
    assert client.xlen(f"rq:results:{job.id}") == 1


def held(queued: Queue, active: ActiveJob) -> RunningJob:
    return RunningJob(None, queued, None, active)  # type: ignore[arg-type]  # what RQ knows of it is not looked at


def active_job() -> ActiveJob:
    job = SimpleNamespace(model="tiny", urgency=3)
    return ActiveJob(cast(Any, job), cast(Any, None), cast(Any, None), 0.0)
