"""Claims, hand-over and recovery in one process, on a real Redis: each step may be cut off, repeated or too late."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from prometheus_client import CollectorRegistry
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.serializers import JSONSerializer

from jobs.contract import Job, JobState
from jobs.errors import StoreUnavailable
from jobs.params import SamplingParams
from jobs.redis import keys
from jobs.redis.queue import JobQueue
from jobs.redis.rq_job import LONE_RETRIES, MAX_DEATHS, MAX_RETRIES, DataJob
from jobs.redis.workers import ask_reports, read_reports
from worker.engine.active import ActiveJob
from worker.engine.held_jobs import Claim, RunningJob
from worker.engine.models import Models, Refused
from worker.metrics import WorkerMetrics
from worker.queue import recovery
from worker.queue.claims import Claims
from worker.queue.job_reading import ModelIsMissing
from worker.queue.outcomes import Outcomes
from worker.queue.reader_threads import MIN_PUT_OFFS, JobRead, JobReaders
from worker.queue.recovery import EXECUTION_TTL, RECOVERY_SECONDS, SILENT_SECONDS, Recovery
from worker.queue.reporting import Reporter
from worker.queue.rq_base import RqBase
from worker.queue.rq_worker import EngineWorker
from worker.settings import WorkerSettings
from worker.stepping.runner import Runner

REF = "tiny@"  # of jobs without a version
QUEUE = str(keys.QueueName(REF, 1, 3))
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
    return RqBase(client, [QUEUE], name=f"difuso-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def claims(client: redis.Redis) -> Claims:
    runner = cast(Runner, SimpleNamespace(slots=SLOTS))
    return Claims(client, {REF: runner})


def submit(queue: JobQueue) -> str:
    params = SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=str(uuid.uuid4()), model="tiny", params=params, accepted_at=time.time(), timeout=60)
    assert queue.submit(job, request_hash="")
    return job.id


def start(worker: RqBase, claims: Claims, *, suspects: bool = False) -> tuple[DataJob, Execution]:
    job = take_one(worker, claims, suspects=suspects)
    (execution,) = worker.start([(job, worker.queues[0])])
    assert execution is not None
    return job, execution


def take_one(worker: RqBase, claims: Claims, *, suspects: bool = False) -> DataJob:
    """Takes the next suspect, or the next job that is not a suspect."""
    (queued,) = worker.queues
    others = [] if suspects else [held(queued, active_job()) for _ in range(SLOTS - 1)]
    ((job, _),) = claims.take([queued], others)
    assert job.is_suspect == suspects
    return job


def succeed(worker: RqBase, claim: Claim) -> None:
    with worker.connection.pipeline() as pipe:
        worker.succeed(pipe, claim, {"images": 1})
        pipe.execute()


def waiting(worker: RqBase) -> list[str]:
    entries: list[Any] = worker.connection.lrange(worker.queues[0].key, 0, -1)
    return [entry.decode() for entry in entries]


def look(recovery: Recovery, worker: RqBase, clock: Clock, seconds: float) -> list[DataJob]:
    """Lets so much time pass in which Redis answers; returns the jobs that were given up."""
    given_up = []
    until = clock.now + seconds
    while clock.now < until:
        clock.now += RECOVERY_SECONDS
        given_up += recovery.run(worker.queues)
    return given_up


def test_only_a_job_that_nobody_has_started_is_fresh(queue: JobQueue, worker: RqBase, claims: Claims) -> None:
    submit(queue)
    job, execution = start(worker, claims)
    assert job.is_fresh
    worker.hand_back(job, worker.queues[0], execution)
    assert not take_one(worker, claims).is_fresh


def test_jobs_are_started_together_once_though_the_reply_was_lost(
    queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    ids = [submit(queue) for _ in range(3)]
    (queued,) = worker.queues
    popped = claims.take([queued], [])
    assert [job.id for job, _ in popped] == ids
    lost = Lossy.lost
    Lossy.armed = True
    executions = worker.retry_until_deadline(lambda: worker.start(popped))
    assert Lossy.lost == lost + 1
    entries = worker.connection.zrange(queued.started_job_registry.key, 0, -1)
    assert sorted(entries) == sorted(each.composite_key.encode() for each in executions if each is not None)
    assert len(entries) == len(ids)
    assert list(worker.executions.values()) == executions
    assert all(queue.status(job_id).state is JobState.RUNNING for job_id in ids)


def test_a_job_that_was_given_back_before_it_started_is_not_ours(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """The worker was frozen after it had popped the job, longer than the others wait."""
    given_back = submit(queue)
    frozen = claims.take(worker.queues, [])
    look(Recovery(client), worker, clock, EXECUTION_TTL)
    kept = submit(queue)
    assert waiting(worker) == [given_back, kept]
    (other_job, _), *_ = claims.take(worker.queues, [held(worker.queues[0], active_job()) for _ in range(SLOTS - 1)])
    assert other_job.id == given_back
    popped = [*frozen, *claims.take(worker.queues, [])]
    mine = worker.start(popped[1:])
    assert [execution is not None for execution in mine] == [True]
    (execution,) = RqBase(client, [QUEUE], name="another").start([(other_job, worker.queues[0])])
    assert execution is not None
    assert worker.start(frozen) == [None]
    assert worker.owns(other_job, execution)
    assert client.zcard(worker.queues[0].started_job_registry.key) == 2


@pytest.mark.parametrize("ending", ["cancelled", "succeeded", "forgotten"])
def test_a_job_that_was_given_back_and_has_ended_does_not_start_again(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock, ending: str
) -> None:
    job_id = submit(queue)
    frozen = claims.take(worker.queues, [])
    look(Recovery(client), worker, clock, EXECUTION_TTL)
    if ending == "cancelled":
        assert queue.cancel(job_id).state is JobState.CANCELLED
    else:
        other = RqBase(client, [QUEUE], name="another")
        job, execution = start(other, claims)
        succeed(other, Claim(job, other.queues[0], execution))
    key = DataJob.key_for(job_id)
    if ending == "forgotten":
        client.delete(key)
    else:
        assert client.ttl(key) > 0
    before = client.hgetall(key), everything(client, job_id, frozen[0][0].id)
    assert worker.start(frozen) == [None]
    assert (client.hgetall(key), everything(client, job_id, frozen[0][0].id)) == before
    assert worker.executions == {}


def test_a_start_that_is_repeated_after_others_have_the_job_is_none(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """The reply was lost, and so was every heartbeat until Redis answered this worker again."""
    submit(queue)
    popped = claims.take(worker.queues, [])
    (lost,) = worker.start(popped)
    assert lost is not None
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    job, execution = start(RqBase(client, [QUEUE], name="another"), claims)
    assert worker.start(popped) == [None]
    assert worker.executions == {}
    assert client.zrange(worker.queues[0].started_job_registry.key, 0, -1) == [execution.composite_key.encode()]
    assert client.hget(job.key, "worker_name") == b"another"


def test_a_start_that_arrived_is_repeated_however_many_tries_were_lost(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    """Of three tries the first arrived without a reply, and the second did not arrive."""
    job_id = submit(queue)
    popped = claims.take(worker.queues, [])
    worker.start(popped)
    unsent = Execution("0" * 32, job_id, client, worker.name)
    worker.executions[unsent.id] = unsent
    (execution,) = worker.start(popped)
    assert execution is not None
    assert worker.executions == {execution.id: execution}
    assert client.zrange(worker.queues[0].started_job_registry.key, 0, -1) == [execution.composite_key.encode()]
    assert queue.status(job_id).state is JobState.RUNNING


def test_what_is_written_at_the_start_and_the_end_of_a_job_is_what_rq_writes(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    """RQ's own worker takes two round trips to start a job and three to end it, and one job at a time."""
    records = []
    (queued,) = worker.queues
    theirs = SimpleWorker([queued], connection=client, job_class=DataJob, serializer=JSONSerializer)
    for by_rq, fails in ((True, False), (False, False), (True, True), (False, True)):
        submit(queue)
        job = take_one(worker, claims)
        if by_rq:
            execution = theirs.prepare_execution(job)
            theirs.prepare_job_execution(job, remove_from_intermediate_queue=True)
        else:
            (found,) = worker.start([(job, queued)])
            assert found is not None
            execution = found
        records.append(everything(client, job.id, execution.id))
        if by_rq and fails:
            theirs._finalize_failure(job, queued, execution, (RuntimeError, RuntimeError("broken"), None))
        elif by_rq:
            theirs._finalize_success(job, queued, execution, {"images": 1})
        elif fails:
            assert worker.fail(job, execution, RuntimeError("broken"), stopped=False)
        else:
            succeed(worker, Claim(job, queued, execution))
        records.append(everything(client, job.id, execution.id))
    assert records[0] == records[2] == records[4] == records[6], "at the start"
    assert records[1] == records[3], "at the end"
    assert records[5] == records[7], "at the end of one that failed"


def everything(client: Any, job_id: str, execution_id: str) -> list[str]:
    """Returns each key that names the job, with its fields or entries that do, and whether it expires.

    Those of a worker of RQ are left out.
    """
    found = []
    for key in client.scan_iter("rq:*"):
        if key.startswith(b"rq:worker:"):
            continue
        kind, named = client.type(key), job_id.encode() in key
        if kind in (b"hash", b"stream"):
            content = {b"hash": client.hkeys, b"stream": client.xrange}[kind](key) if named else []
            parts = [name for entry in content for name in (entry[1] if kind == b"stream" else [entry])]
        else:
            entries = client.smembers(key) if kind == b"set" else client.sort(key, by="nosort")
            parts = [entry for entry in entries if named or job_id.encode() in entry]
        if parts:
            text = f"{key} {sorted(parts)} expires: {client.ttl(key) >= 0}"
            found.append(text.replace(job_id, "JOB").replace(execution_id, "EXECUTION"))
    return sorted(found)


@pytest.mark.parametrize("at_front", [True, False])
def test_a_job_is_handed_back_once_though_the_reply_was_lost(
    queue: JobQueue, worker: RqBase, claims: Claims, *, at_front: bool
) -> None:
    first, second = submit(queue), submit(queue)
    job, execution = start(worker, claims)
    lost = Lossy.lost
    Lossy.armed = True
    worker.retry_until_deadline(lambda: worker.hand_back(job, worker.queues[0], execution, at_front=at_front))
    assert Lossy.lost == lost + 1
    assert waiting(worker) == ([first, second] if at_front else [second, first])
    assert queue.status(first).state is JobState.QUEUED
    assert worker.connection.zcard(worker.queues[0].started_job_registry.key) == 0


@pytest.mark.parametrize("error", [StoreUnavailable("the store hangs"), ModelIsMissing(cast(Any, None), "upscaler@")])
def test_a_job_is_put_off_for_as_long_as_it_may_run(
    queue: JobQueue, worker: RqBase, claims: Claims, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Counted from its first failed try, however old it is then; one that succeeds begins the count anew.

    Two failures that lie far apart, because it waited in its queue meanwhile, are not enough.
    """
    job_id, now, refused = submit(queue), time.time() + 3600, list[Exception]()
    outcomes = SimpleNamespace(refuse=lambda claim, error: refused.append(error))
    readers = JobReaders(
        *(worker, cast(Any, outcomes), cast(Any, None), Models({}), lambda event: None),
        bind=lambda job, models: None,
        store_wait=60,
    )

    def try_it(seconds: float, **read: Any) -> None:
        """Claims the job so much later, and lets the readers take what came of reading it."""
        monkeypatch.setattr("time.time", lambda: now + seconds)
        job, execution = start(worker, claims)
        readers.claims.append(claim := Claim(job, worker.queues[0], execution))
        if readers.take(JobRead(claim, **read)) is not None:
            worker.hand_back(job, worker.queues[0], execution)

    for seconds in (0, 59):
        try_it(seconds, error=error)
        assert waiting(worker) == [job_id]
    try_it(60, active=active_job())
    for seconds in (61, 700, *range(701, 701 + MIN_PUT_OFFS - 2)):
        try_it(seconds, error=error)
        assert waiting(worker) == [job_id]
    try_it(720, error=error)
    assert (refused, waiting(worker)) == ([error], [])
    readers.close()


def test_a_job_is_put_off_for_as_long_as_a_result_waits_for_the_store(
    queue: JobQueue, worker: RqBase, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short its run may be; what is not the store's fault does not count."""
    now, refused = time.time(), list[Exception]()
    outcomes = SimpleNamespace(refuse=lambda claim, error: refused.append(error))
    readers = JobReaders(
        *(worker, cast(Any, outcomes), cast(Any, None), Models({}), lambda event: None),
        bind=lambda job, models: None,
        store_wait=5000,
    )
    missing = ModelIsMissing(cast(Any, None), "upscaler@")
    for error, longest in ((StoreUnavailable("the store hangs"), 5000), (missing, 60)):
        job_id = submit(queue)
        for seconds in (0, 1, 2, longest - 1, longest + 1):
            monkeypatch.setattr("time.time", lambda: now + seconds)  # noqa: B023
            assert waiting(worker) == [job_id]
            job, execution = start(worker, claims)
            readers.claims.append(claim := Claim(job, worker.queues[0], execution))
            readers.take(JobRead(claim, error=error))
        assert (refused.pop(), waiting(worker)) == (error, [])
    readers.close()


@pytest.fixture
def lose(client: redis.Redis, worker: RqBase, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Called with `owns` or `owned`: the worker is frozen after it has asked that, and others take its job."""

    def arm(name: str) -> None:
        ask = getattr(worker, name)

        def and_then_it_is_lost(*of: Any) -> Any:
            its = ask(*of)
            monkeypatch.setattr(worker, name, ask)
            look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
            return its

        monkeypatch.setattr(worker, name, and_then_it_is_lost)

    return arm


def test_a_job_that_is_recovered_at_this_moment_is_not_handed_back_too(
    queue: JobQueue, worker: RqBase, claims: Claims, lose: Callable[[str], None]
) -> None:
    job_id = submit(queue)
    job, execution = start(worker, claims)
    lose("owns")
    worker.retry_until_deadline(lambda: worker.hand_back(job, worker.queues[0], execution))
    assert waiting(worker) == [job_id], "once"


def test_a_job_is_handed_back_though_redis_came_back_empty(worker: RqBase, queue: JobQueue, claims: Claims) -> None:
    job_id = submit(queue)
    job, execution = start(worker, claims)
    worker.connection.flushall()
    for _ in range(2):
        worker.retry_until_deadline(lambda: worker.hand_back(job, worker.queues[0], execution))
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


def test_a_worker_whose_clock_is_far_ahead_is_known_by_its_silence_alone(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    lives, dies = submit(queue), submit(queue)
    alive, dead = start(worker, claims), start(worker, claims)
    registry, ahead = worker.queues[0].started_job_registry.key, 1e6
    client.zadd(registry, {each.composite_key: clock.now + ahead for _, each in (alive, dead)})
    observer = Recovery(client)
    for _ in range(3):
        look(observer, worker, clock, SILENT_SECONDS / 2)
        client.zadd(registry, {alive[1].composite_key: clock.now + ahead})  # a beat
    assert waiting(worker) == [dies]
    assert queue.status(lives).state is JobState.RUNNING


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
    assert take_one(worker, claims).id == popped
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
    assert [job.id for job in given_up] == [job_id]
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
        assert [job.id for job in given_up] == ([] if death < MAX_DEATHS else [job_id])


def test_a_busy_worker_leaves_suspects_to_others_and_makes_room_if_nobody_is_idle(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    suspect, other = submit(queue), submit(queue)
    client.hset(DataJob.key_for(suspect), "retries_left", LONE_RETRIES)
    (queued,) = worker.queues
    assert take_one(worker, claims).id == other
    active = active_job()
    claims.make_room([queued], [active])
    assert claims.room(queued, [held(queued, active)])
    claims.make_room([queued], [active])
    assert active.release, "nobody has taken it"
    assert not claims.room(queued, [held(queued, active)])
    assert take_one(worker, claims, suspects=True).id == suspect


def test_a_suspect_that_no_worker_can_make_ready_lets_the_others_pass(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose second model is missing: it goes back to its queue as soon as it was taken."""
    suspect, now, active = submit(queue), time.time(), active_job()
    client.hset(DataJob.key_for(suspect), "retries_left", LONE_RETRIES)
    (queued,) = worker.queues
    for tries in (1, 2, 3):
        job, execution = start(worker, claims, suspects=True)
        worker.hand_back(job, queued, execution, at_front=False)
        others = {submit(queue), submit(queue)}
        assert {job.id for job, _ in claims.take([queued], [])} == others
        assert claims.take([queued], []) == []
        for _ in range(2):
            claims.make_room([queued], [active])
        assert not active.release
        monkeypatch.setattr("time.time", lambda tries=tries: now + 2**tries + 1)
    claims.make_room([queued], [active])
    claims.make_room([queued], [active])
    assert active.release
    assert [job.id for job, _ in claims.take([queued], [])] == [suspect]


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
    assert claims.take([queued], full) == []
    claimed = [job.id for job, _ in claims.take([queued], full, crowded=True)]
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
    assert [job.id for job, _ in claims.take([queued], [], crowded=True)] == [suspect]
    assert [job.id for job, _ in claims.take([queued], [], crowded=True)] == [orphan]


def test_beside_a_suspect_nothing_is_claimed(worker: RqBase, claims: Claims) -> None:
    (queued,) = worker.queues
    active = active_job()
    assert claims.room(queued, [held(queued, active)])
    active.alone = True
    assert not claims.room(queued, [held(queued, active)])
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
    tries = 0

    def write(*args: object, **kwargs: object) -> None:
        nonlocal tries
        tries += 1
        if tries > 1:
            return
        if arrived:
            succeed(worker, Claim(job, queued, execution))
        else:
            look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
            again, started = start(other, claims)
            succeed(other, Claim(again, queued, started))
        raise redis.ConnectionError("the reply was lost")

    outcomes = outcomes_of(worker, ended=write)
    item = RunningJob(
        job,
        queued,
        execution,
        cast(
            Any,
            SimpleNamespace(
                job=SimpleNamespace(id=job.id, trail={}, answers=1, model="tiny", version="", owner=None),
                has_snapshot=True,
                image_steps=10,
                denoise_seconds=0.1,
            ),
        ),
    )
    (outcome,) = outcomes.succeed({item: cast(Any, SimpleNamespace(seconds=0.0))})
    assert outcome == ("succeeded" if arrived else "lost")
    assert client.xlen(f"rq:results:{job.id}") == 1


def outcomes_of(worker: RqBase, ended: Callable[..., None] = lambda *a, **k: None) -> Outcomes:
    """Without reports, metrics and files."""
    reporter = SimpleNamespace(ended=ended)
    metrics = SimpleNamespace(retried=lambda how: None, finished=lambda active, outcome: None)
    writers = SimpleNamespace(forget=lambda job_id: None)
    return Outcomes(worker, cast(Any, reporter), cast(Any, writers), cast(Any, metrics))


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_job_that_is_recovered_at_this_moment_does_not_end_here(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, lose: Callable[[str], None], end: str
) -> None:
    """The client must not see an end that is taken back."""
    job_id = submit(queue)
    job, execution = start(worker, claims)
    if end == "succeed":
        facts = SimpleNamespace(job=SimpleNamespace(id=job.id, trail={}, answers=1), has_snapshot=True)
        item = RunningJob(job, worker.queues[0], execution, cast(Any, facts))
        lose("owned")
        assert outcomes_of(worker).succeed({item: cast(Any, SimpleNamespace(seconds=0.0))}) == ["lost"]
    else:
        lose("owns")
        assert not worker.retry_until_deadline(
            lambda: worker.fail(job, execution, RuntimeError("broken"), stopped=False)
        )
    assert queue.status(job_id).state is JobState.QUEUED
    assert waiting(worker) == [job_id]
    assert not client.exists(f"rq:results:{job_id}")


def test_a_job_fails_once_though_the_reply_was_lost(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    job_id = submit(queue)
    job, execution = start(worker, claims)
    lost = Lossy.lost
    Lossy.armed = True
    assert worker.retry_until_deadline(lambda: worker.fail(job, execution, RuntimeError("broken"), stopped=False))
    assert Lossy.lost == lost + 1
    assert queue.status(job_id).state is JobState.FAILED
    assert client.xlen(f"rq:results:{job_id}") == 1


def test_a_job_that_was_handed_back_has_not_waited_since_it_was_accepted(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    job_id = submit(queue)
    for way in ("handed back", "recovered"):
        job, execution = start(worker, claims)
        client.hset(f"rq:job:{job_id}", "enqueued_at", "2026-01-01T00:00:00.000000Z")
        if way == "handed back":
            worker.hand_back(job, worker.queues[0], execution)
        else:
            look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
        assert waiting(worker) == [job_id]
        assert 0 <= queue.oldest_age() < 3600, way


def test_a_worker_that_thaws_tells_nothing_of_jobs_that_it_lost(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """One that stepped and one that was being read: both are another's now, who may have told their end."""
    follower = SimpleNamespace(models=Models({}), look=lambda: None, forget=lambda refs: None)
    metrics = WorkerMetrics(CollectorRegistry())
    thawed = EngineWorker(client, cast(Any, follower), cast(Any, None), metrics, WorkerSettings())
    thawed.listen_to([QUEUE])
    ids = [submit(queue), submit(queue)]
    (stepping, first), (being_read, second) = start(thawed, claims), start(thawed, claims)
    active = active_job()
    thawed._running[active] = RunningJob(stepping, thawed.queues[0], first, active)
    thawed._readers.claims.append(Claim(being_read, thawed.queues[0], second))
    thawed._beat()
    assert not active.cancel
    assert len(thawed._readers.claims) == 1
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    assert set(waiting(worker)) == set(ids)
    thawed._beat()
    thawed._report()
    assert active.cancel
    assert thawed._readers.claims == []
    assert not client.exists(*map(keys.progress, ids))


def test_a_job_of_a_model_that_nobody_serves_waits(client: redis.Redis, queue: JobQueue, clock: Clock) -> None:
    """Its workers may come back, however late."""
    job_id = submit(queue)
    runner = cast(Runner, SimpleNamespace(slots=SLOTS))
    claims = Claims(client, {"other": runner})
    worker = RqBase(client, claims.queue_names, name="other-models")
    clock.now += 10 * 86400
    assert worker.recover() == []
    worker.tidy()
    assert claims.take(worker.queues, []) == []
    assert queue.status(job_id).state is JobState.QUEUED
    assert client.ttl(f"rq:job:{job_id}") == -1


def test_the_backlog_keeps_a_job_that_is_just_being_submitted(client: redis.Redis, queue: JobQueue) -> None:
    """It stands there before it has a record."""
    reporter = Reporter(client, Models({REF: cast(Any, None)}), result_ttl=60)
    client.hset(keys.backlog(REF), "over", 10)
    submitted = submit(queue)
    reporter.tidy_backlog()
    client.hset(keys.backlog(REF), "new", 10)
    reporter.tidy_backlog()
    assert set(client.hkeys(keys.backlog(REF))) == {b"new", submitted.encode()}


def test_only_the_first_claim_of_a_job_tells_how_long_it_waited(
    queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    submit(queue)
    active = SimpleNamespace(claimed_at=7.0, job=SimpleNamespace(accepted_at=5.0))
    for _ in range(2):
        job, execution = start(worker, claims)
        metrics.claimed(RunningJob(job, worker.queues[0], execution, cast(Any, active)))
        worker.hand_back(job, worker.queues[0], execution)
    assert registry.get_sample_value("difuso_queue_wait_seconds_count") == 1
    assert registry.get_sample_value("difuso_queue_wait_seconds_sum") == 2


def test_a_job_that_changes_its_worker_began_when_the_first_took_it(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    """So its wait in the queue does not seem to hold the steps of the first."""
    job_id = submit(queue)
    began = set()
    for _ in range(2):
        job, execution = start(worker, claims)
        began |= {job.started_at, queue.status(job_id).started_at}
        worker.hand_back(job, worker.queues[0], execution)
    assert len({each if isinstance(each, float) else each.timestamp() for each in began if each}) == 1


def test_a_worker_that_claims_nothing_for_a_while_hears_who_cancels(client: redis.Redis, queue: JobQueue) -> None:
    """As while the store does not answer."""
    follower = SimpleNamespace(models=Models({}), look=lambda: None, forget=lambda refs: None)
    metrics = WorkerMetrics(CollectorRegistry())
    worker = EngineWorker(client, cast(Any, follower), cast(Any, None), metrics, WorkerSettings())
    worker.listen_to([QUEUE])
    active = active_job()
    active.job.id = submit(queue)  # type: ignore[misc]
    worker._running[active] = held(worker.queues[0], active)
    worker._pacer.put_off("claim", 60)
    queue.cancel(active.job.id)
    client.set(keys.cancel(active.job.id), "")
    worker._claim_all(worker.queues)
    assert active.cancel


def test_a_worker_beside_hundreds_of_folders_of_others_is_seen(client: redis.Redis) -> None:
    why = Refused("config.json is missing: " + 150 * "x", None)
    refused = {f"run-{number}": why for number in range(1000)}
    Reporter(client, Models(refused=refused), result_ttl=60).worker("ours")
    (report,) = read_reports(ask_reports(client))
    assert report.name == "ours"
    assert 0 < len(report.models) < 1000


def test_all_jobs_count_from_acceptance_to_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that no request waits for, as the page's and the client's; the alert of slow jobs reads these."""
    registry = CollectorRegistry()
    monkeypatch.setattr("worker.metrics.time.time", lambda: 20.0)
    job = SimpleNamespace(kind="generate", model="tiny", accepted_at=5.0, params=SimpleNamespace(sampler="ddim"))
    active, metrics = SimpleNamespace(claimed_at=7.0, job=job), WorkerMetrics(registry)
    for outcome in ("succeeded", "failed", "cancelled"):
        metrics.finished(cast(Any, active), outcome)
    assert registry.get_sample_value("difuso_end_to_end_seconds_count") == 1
    assert registry.get_sample_value("difuso_end_to_end_seconds_sum") == 15


def held(queued: Queue, active: ActiveJob) -> RunningJob:
    return RunningJob(None, queued, None, active)  # type: ignore[arg-type]  # what RQ knows of it is not looked at


def active_job() -> ActiveJob:
    job = SimpleNamespace(model="tiny", ref=REF, refs=(REF,), urgency=3)
    return ActiveJob(cast(Any, job), cast(Any, None), cast(Any, None))
