"""Claims, hand-over and recovery in one process, on a real Redis: each step may be cut off, repeated or too late."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from prometheus_client import CollectorRegistry
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.job import Job as RqJob
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from difuso.jobs.contract import Job, JobState
from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis import keys
from difuso.jobs.redis.job_records import LONE_RETRIES, MAX_DEATHS, MAX_RETRIES, JobRecord
from difuso.jobs.redis.keys import queue_key, running_key
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.usage import UsageRecords, Used
from difuso.worker.engine.active import ActiveJob
from difuso.worker.engine.failures import JobRefused
from difuso.worker.engine.held_jobs import Claim, RunningJob
from difuso.worker.engine.served_models import Models
from difuso.worker.metrics import WorkerMetrics
from difuso.worker.queue import recovery, rq_worker
from difuso.worker.queue.claims import Claims
from difuso.worker.queue.job_reading import ModelIsMissing
from difuso.worker.queue.reader_threads import MIN_PUT_OFFS, JobRead, JobReaders
from difuso.worker.queue.recovery import RECOVERY_SECONDS, SILENT_SECONDS, Recovery
from difuso.worker.queue.rq_base import RqBase
from difuso.worker.queue.rq_scripts import EXECUTION_TTL, End
from difuso.worker.queue.rq_worker import EngineWorker
from difuso.worker.queue.stranded import REFUSED_SECONDS
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import Runner
from tests.lost_replies import LosesReply

REF = "tiny@"  # of jobs without a version
QUEUE = keys.QueueName(REF, 1, 3)
SLOTS = 8


class Lossy(redis.UnixDomainSocketConnection):
    """Loses the reply to one script, which Redis has carried out."""

    armed = False
    lost = 0

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._sent = b"".join(command) if isinstance(command, list) else bytes(command)
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        response = super().read_response(*args, **kwargs)
        if Lossy.armed and b"EVAL" in self._sent:
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
def claims(client: redis.Redis, worker: RqBase) -> Claims:
    return claims_of(client, worker)


def claims_of(client: redis.Redis | LosesReply, worker: RqBase) -> Claims:
    runner = cast(Runner, SimpleNamespace(slots=SLOTS))
    return Claims(cast(Any, client), {REF: runner}, worker.name)


def submit(queue: JobQueue, *, model: str = "tiny") -> str:
    params = SamplingParams(n=1, steps=10, sampler="ddim", spacing="leading", eta=0, seed=0)
    job = Job(id=str(uuid.uuid4()), model=model, params=params, accepted_at=time.time(), timeout=60)
    assert queue.submit(job, request_hash="")
    return job.id


def take_one(claims: Claims, *, suspects: bool = False) -> Claim:
    """Takes the next suspect, or the next job that is not a suspect."""
    others = [] if suspects else [held(QUEUE, active_job()) for _ in range(SLOTS - 1)]
    (claim,) = claims.take([QUEUE], others)
    assert claim.record.is_suspect == suspects
    return claim


@pytest.mark.timeout(30)
def test_an_idle_worker_sees_jobs_whose_token_is_gone(client: redis.Redis, queue: JobQueue, claims: Claims) -> None:
    """It was taken while the model was not loaded."""
    submit(queue)
    client.delete(keys.wake(REF))
    assert claims.wait([QUEUE], [], crowded=False, seconds=60)


def another(client: redis.Redis) -> RqBase:
    return RqBase(client, [QUEUE], name="another")


def end(worker: RqBase, claim: Claim, *, fails: bool = False) -> bool:
    state, result = (JobState.FAILED, "broken") if fails else (JobState.SUCCEEDED, {"images": 1})
    (ours,) = worker.retry_until_deadline(lambda: worker.end([End(claim, state, cast(Any, result))], at=time.time()))
    return ours


def waiting(worker: RqBase) -> list[str]:
    entries: list[Any] = worker.connection.lrange(queue_key(QUEUE), 0, -1)
    return [entry.decode() for entry in entries]


def look(recovery: Recovery, worker: RqBase, clock: Clock, seconds: float) -> list[JobRecord]:
    """Lets so much time pass in which Redis answers; returns the jobs that were given up."""
    given_up = []
    until = clock.now + seconds
    while clock.now < until:
        clock.now += RECOVERY_SECONDS
        given_up += recovery.run(worker.queues)
    return given_up


def test_only_a_job_that_nobody_has_started_is_fresh(queue: JobQueue, worker: RqBase, claims: Claims) -> None:
    submit(queue)
    claim = take_one(claims)
    assert claim.record.is_fresh
    worker.hand_back(claim)
    assert not take_one(claims).record.is_fresh


def test_jobs_are_claimed_together_once_though_the_reply_was_lost(
    queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    ids = [submit(queue) for _ in range(3)]
    lost = Lossy.lost
    Lossy.armed = True
    claimed = claims.take([QUEUE], [])
    assert Lossy.lost == lost + 1
    assert [claim.record.id for claim in claimed] == ids
    entries = worker.connection.zrange(running_key(QUEUE), 0, -1)
    assert sorted(entries) == sorted(claim.entry.encode() for claim in claimed)
    assert waiting(worker) == []
    assert all(queue.status(job_id).state is JobState.RUNNING for job_id in ids)
    assert claims.take([QUEUE], []) == [], "each is claimed once"


@pytest.mark.parametrize("served", [["a@", REF], ["a@", "b@", REF, "z@"], ["a@"]], ids="-".join)
def test_a_claim_that_failed_is_repeated_though_other_models_are_served_since(
    client: redis.Redis, queue: JobQueue, worker: RqBase, served: list[str]
) -> None:
    """Its queues have other places among those of the worker then, or none; then its jobs are left to recovery."""
    runner, job_id = cast(Runner, SimpleNamespace(slots=SLOTS)), submit(queue)
    claims = Claims(cast(Any, LosesReply(client)), dict.fromkeys(["b@", REF, "z@"], runner), worker.name)
    with pytest.raises(redis.TimeoutError):
        claims.take(claims.queues, [])
    claims.serve(dict.fromkeys(served, runner))
    other = submit(queue, model="a")
    again = claims.take(claims.queues, [])
    assert [(claim.record.id, claim.queue) for claim in again] == ([(job_id, QUEUE)] if REF in served else [])
    assert [claim.record.id for claim in claims.take(claims.queues, again)] == [other]


def test_an_idle_worker_hears_at_once_what_a_lost_reply_said(
    client: redis.Redis, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queues are empty then, so that nothing else would make it ask again."""
    monkeypatch.setattr(rq_worker, "IDLE_SECONDS", 0.05)
    models = Models({REF: cast(Runner, SimpleNamespace(slots=SLOTS))})
    follower = SimpleNamespace(models=models, look=lambda: None, forget=lambda refs: None)
    metrics, deaf = WorkerMetrics(CollectorRegistry()), LosesReply(client)
    monkeypatch.setattr(metrics, "watch", lambda *_: None)
    worker = EngineWorker(cast(Any, deaf), cast(Any, follower), cast(Any, None), metrics, WorkerSettings())
    job_id = submit(queue)
    for _ in range(5):
        worker._claim_all(worker.queues)
    assert deaf.lost == 1
    assert [claim.record.id for claim in worker._held] == [job_id]


def test_a_job_that_was_given_back_before_its_claim_was_answered_is_not_ours(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """The worker was frozen after it had claimed the job, longer than the others wait."""
    given_back = submit(queue)
    frozen = claims_of(LosesReply(client), worker)
    with pytest.raises(redis.TimeoutError):
        frozen.take(worker.queues, [])
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    kept = submit(queue)
    assert waiting(worker) == [given_back, kept]
    other = take_one(claims_of(client, another(client)))
    assert other.record.id == given_back
    assert frozen.take(worker.queues, []) == []
    (mine,) = frozen.take(worker.queues, [])
    assert mine.record.id == kept
    assert another(client).beat([other]) == []
    assert client.zcard(running_key(QUEUE)) == 2


@pytest.mark.parametrize("ending", ["cancelled", "succeeded", "forgotten"])
def test_a_job_that_was_given_back_and_has_ended_does_not_start_again(
    client: redis.Redis, queue: JobQueue, worker: RqBase, clock: Clock, ending: str
) -> None:
    job_id = submit(queue)
    frozen = claims_of(LosesReply(client), worker)
    with pytest.raises(redis.TimeoutError):
        frozen.take(worker.queues, [])
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    if ending == "cancelled":
        assert queue.cancel(job_id).state is JobState.CANCELLED
    else:
        assert end(another(client), take_one(claims_of(client, another(client))))
    key = RqJob.key_for(job_id)
    if ending == "forgotten":
        client.delete(key)
    else:
        assert client.ttl(key) > 0
    before = client.hgetall(key), sorted(client.keys())
    assert frozen.take(worker.queues, []) == []
    assert (client.hgetall(key), sorted(client.keys())) == before


def test_what_rqs_own_tools_read_is_written(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    done, failed, runs = submit(queue), submit(queue), submit(queue)
    assert end(worker, take_one(claims))
    assert end(worker, take_one(claims), fails=True)
    take_one(claims)
    waits = submit(queue)
    queued = Queue(str(QUEUE), connection=client, serializer=JSONSerializer)
    assert (queued.job_ids, queued.intermediate_queue.get_job_ids()) == ([waits], [])
    ended, broken, running, _ = (queued.fetch_job(each) for each in (done, failed, runs, waits))
    for registry, there in ((FinishedJobRegistry, done), (FailedJobRegistry, failed), (StartedJobRegistry, runs)):
        assert registry(queue=queued).get_job_ids(cleanup=False) == [there]
    assert ended is not None
    assert broken is not None
    assert running is not None
    assert [each.get_status() for each in (ended, broken, running)] == ["finished", "failed", "started"]
    assert ended.return_value() == {"images": 1}
    result = broken.latest_result()
    assert result is not None
    assert (result.type, result.exc_string, result.worker_name) == (result.Type.FAILED, "broken", worker.name)
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.started_at <= ended.ended_at
    assert running.worker_name == worker.name
    for job_id in (done, failed):
        assert [client.ttl(key) > 0 for key in client.scan_iter(f"rq:*{job_id}*")] == [True, True]


@pytest.mark.parametrize("at_front", [True, False])
def test_a_job_is_handed_back_once_though_the_reply_was_lost(
    queue: JobQueue, worker: RqBase, claims: Claims, *, at_front: bool
) -> None:
    first, second = submit(queue), submit(queue)
    claim = take_one(claims)
    lost = Lossy.lost
    Lossy.armed = True
    worker.retry_until_deadline(lambda: worker.hand_back(claim, at_front=at_front))
    assert Lossy.lost == lost + 1
    assert waiting(worker) == ([first, second] if at_front else [second, first])
    assert queue.status(first).state is JobState.QUEUED
    assert worker.connection.zcard(running_key(QUEUE)) == 0


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
        readers.claims.append(claim := take_one(claims))
        if readers.take(JobRead(claim, **read)) is not None:
            worker.hand_back(claim)

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


def test_a_job_that_no_live_worker_can_draw_waits_only_for_one_that_starts_again(
    queue: JobQueue, worker: RqBase, claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, now, refused = submit(queue), time.time() + 3600, list[Exception]()
    outcomes = SimpleNamespace(refuse=lambda claim, error: refused.append(error))
    why = ["none", None, *["none"] * MIN_PUT_OFFS]
    readers = JobReaders(
        *(worker, cast(Any, outcomes), cast(Any, None), Models({}), lambda event: None),
        bind=lambda job, models: why.pop(0),
        store_wait=60,
    )
    for seconds in (0, REFUSED_SECONDS + 1, *range(MIN_PUT_OFFS - 2)):  # one that can lives at the second try
        monkeypatch.setattr("time.time", lambda: now + seconds)  # noqa: B023
        readers.claims.append(claim := take_one(claims))
        readers.take(JobRead(claim, error=ModelIsMissing(cast(Any, None), "upscaler@")))
        assert waiting(worker) == [job_id]
    monkeypatch.setattr("time.time", lambda: now + REFUSED_SECONDS + 2)
    readers.claims.append(claim := take_one(claims))
    readers.take(JobRead(claim, error=ModelIsMissing(cast(Any, None), "upscaler@")))
    assert ([type(error) for error in refused], waiting(worker)) == ([JobRefused], [])
    readers.close()


def test_work_that_was_done_before_a_job_is_handed_back_counts(queue: JobQueue, worker: RqBase, claims: Claims) -> None:
    """Also if it ends in the queue; it gives the job its tries back."""
    job_id = submit(queue)
    worker.connection.hset(RqJob.key_for(job_id), "retries_left", LONE_RETRIES + 1)
    claim = take_one(claims)
    active = cast(Any, SimpleNamespace(image_steps=7))
    worker.hand_back(RunningJob(claim.record, claim.execution, active=active))
    again = take_one(claims)
    assert (again.record.resumed_at, again.record.retries_left) == (7, MAX_RETRIES)
    worker.hand_back(again)
    queue.cancel(job_id)
    assert UsageRecords(cast(Any, worker.connection)).totals() == {None: Used(image_steps=7)}


def test_a_job_is_handed_back_though_redis_came_back_empty(worker: RqBase, queue: JobQueue, claims: Claims) -> None:
    job_id = submit(queue)
    claim = take_one(claims)
    worker.connection.flushall()
    for _ in range(2):
        worker.hand_back(claim)
    assert waiting(worker) == [job_id]


def test_a_job_ends_though_redis_came_back_empty(worker: RqBase, queue: JobQueue, claims: Claims) -> None:
    job_id = submit(queue)
    claim = take_one(claims)
    worker.connection.flushall()
    assert worker.beat([claim]) == []
    assert queue.status(job_id).state is JobState.RUNNING
    worker.connection.flushall()
    assert [end(worker, claim), end(worker, claim)] == [True, True]
    assert queue.status(job_id).state is JobState.SUCCEEDED


def test_after_an_outage_the_dead_are_distinguished_from_those_who_could_not_speak(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """All marks of life are as old. Whoever lives gives another, the job of the other goes to the front."""
    lives, dies = submit(queue), submit(queue)
    alive, _ = take_one(claims), take_one(claims)
    waits = submit(queue)
    observer = Recovery(client)
    look(observer, worker, clock, RECOVERY_SECONDS)
    clock.now += 100 * EXECUTION_TTL
    look(observer, worker, clock, SILENT_SECONDS / 2)
    assert waiting(worker) == [waits], "so soon after the outage nobody is known to be dead"
    client.zadd(running_key(QUEUE), {alive.entry: clock.now + EXECUTION_TTL})  # a beat
    look(observer, worker, clock, SILENT_SECONDS)
    assert waiting(worker) == [dies, waits]
    assert queue.status(dies).state is JobState.QUEUED
    assert queue.status(lives).state is JobState.RUNNING
    assert worker.beat([alive]) == []


def test_a_worker_whose_clock_is_far_ahead_is_known_by_its_silence_alone(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    lives, dies = submit(queue), submit(queue)
    alive, dead = take_one(claims), take_one(claims)
    registry, ahead = running_key(QUEUE), 1e6
    client.zadd(registry, {each.entry: clock.now + ahead for each in (alive, dead)})
    observer = Recovery(client)
    for _ in range(3):
        look(observer, worker, clock, SILENT_SECONDS / 2)
        client.zadd(registry, {alive.entry: clock.now + ahead})  # a beat
    assert waiting(worker) == [dies]
    assert queue.status(lives).state is JobState.RUNNING


def test_of_several_observers_one_gives_a_job_back(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    job_id = submit(queue)
    take_one(claims)
    observers = [Recovery(client) for _ in range(3)]
    for _ in range(20):
        clock.now += RECOVERY_SECONDS
        for observer in observers:
            observer.run(worker.queues)
    assert waiting(worker) == [job_id]
    assert queue.status(job_id).attempts == 1


def test_a_job_that_was_claimed_and_never_begun_goes_back(
    client: redis.Redis, queue: JobQueue, worker: RqBase, clock: Clock
) -> None:
    """Its worker died before it heard what it had claimed."""
    claimed, waits = submit(queue), submit(queue)
    claims = claims_of(LosesReply(client), worker)
    with pytest.raises(redis.TimeoutError):
        take_one(claims)
    assert waiting(worker) == [waits]
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    assert waiting(worker) == [claimed, waits]
    assert queue.status(claimed).state is JobState.QUEUED


def test_without_progress_a_job_has_its_tries_and_the_last_ones_alone(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    job_id = submit(queue)
    for tries in range(MAX_RETRIES, -1, -1):
        worker.credit(take_one(claims, suspects=tries <= LONE_RETRIES).record, 0)
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
        record = take_one(claims).record
        worker.credit(record, death)
        assert not record.is_suspect
        given_up = look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
        assert [job.id for job in given_up] == ([] if death < MAX_DEATHS else [job_id])


def test_a_busy_worker_leaves_suspects_to_others_and_makes_room_if_nobody_is_idle(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    suspect, other = submit(queue), submit(queue)
    client.hset(RqJob.key_for(suspect), "retries_left", LONE_RETRIES)
    (queued,) = worker.queues
    assert take_one(claims).record.id == other
    active = active_job()
    claims.make_room([queued], [active])
    assert claims.room(queued, [held(queued, active)])
    claims.make_room([queued], [active])
    assert active.release, "nobody has taken it"
    assert not claims.room(queued, [held(queued, active)])
    assert take_one(claims, suspects=True).record.id == suspect


def test_an_orphan_waits_for_no_slot(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """The other workers may be full for minutes. But one alone must not take what a whole fleet has left behind."""
    (queued,) = worker.queues
    orphans = [submit(queue) for _ in range(SLOTS + 1)]
    for _ in orphans:
        take_one(claims)
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    submit(queue)
    full = [held(queued, active_job()) for _ in range(SLOTS)]
    assert claims.take([queued], full) == []
    claimed = [claim.record.id for claim in claims.take([queued], full, crowded=True)]
    assert len(claimed) == SLOTS
    assert set(claimed) < set(orphans)


def test_beside_a_suspect_nothing_is_claimed(worker: RqBase, claims: Claims) -> None:
    (queued,) = worker.queues
    active = active_job()
    assert claims.room(queued, [held(queued, active)])
    active.alone = True
    assert not claims.room(queued, [held(queued, active)])
    claims.make_room([queued], [active])
    claims.make_room([queued], [active])
    assert not active.release


@pytest.mark.parametrize("fails", [True, False])
def test_a_job_ends_once_though_the_reply_was_lost(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, *, fails: bool
) -> None:
    job_id = submit(queue)
    claim, lost = take_one(claims), Lossy.lost
    Lossy.armed = True
    assert end(worker, claim, fails=fails)
    assert Lossy.lost == lost + 1
    assert end(worker, claim, fails=fails), "however often"
    assert queue.status(job_id).state is (JobState.FAILED if fails else JobState.SUCCEEDED)
    assert client.xlen(f"rq:results:{job_id}") == 1


@pytest.mark.parametrize("ended", [True, False])
def test_a_job_that_others_have_neither_ends_here_nor_goes_back(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock, *, ended: bool
) -> None:
    """The client must not see an end that is taken back. Redis was away while a worker ended its job, for so long."""
    job_id, mine = submit(queue), take_one(claims)
    look(Recovery(client), worker, clock, 2 * EXECUTION_TTL)
    if ended:
        assert end(another(client), take_one(claims_of(client, another(client))), fails=True)
    assert not end(worker, mine)
    worker.hand_back(mine)
    assert worker.beat([mine]) == [mine]
    assert queue.status(job_id).state is (JobState.FAILED if ended else JobState.QUEUED)
    assert waiting(worker) == ([] if ended else [job_id])
    assert client.xlen(f"rq:results:{job_id}") == ended


def test_several_jobs_end_at_once_each_by_itself(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims
) -> None:
    ids = [submit(queue) for _ in range(3)]
    first, second, third = claims.take([QUEUE], [])
    worker.hand_back(second)
    client.set(keys.progress(ids[0]), "{}")
    ends = [
        End(first, JobState.SUCCEEDED, {"images": 1}, versions=("e" * 64,)),
        End(second, JobState.FAILED, "broken"),
        End(third, JobState.CANCELLED, "Cancelled()", '{"image_steps": 7}'),
    ]
    assert worker.end(ends, at=time.time()) == [True, False, True]
    states = [queue.status(job_id).state for job_id in ids]
    assert states == [JobState.SUCCEEDED, JobState.QUEUED, JobState.CANCELLED]
    assert queue.status(ids[2]).progress.image_steps == 7
    assert queue.status(ids[0]).job.versions == ("e" * 64,)
    assert client.hkeys(keys.backlog(REF)) == [ids[1].encode()]


def test_a_worker_that_thaws_says_nothing_of_jobs_that_it_lost(
    client: redis.Redis, queue: JobQueue, worker: RqBase, claims: Claims, clock: Clock
) -> None:
    """One that stepped and one that was being read: both are another's now, who may have announced their end."""
    follower = SimpleNamespace(models=Models({}), look=lambda: None, forget=lambda refs: None)
    metrics = WorkerMetrics(CollectorRegistry())
    thawed = EngineWorker(client, cast(Any, follower), cast(Any, None), metrics, WorkerSettings())
    thawed.queues = [QUEUE]
    ids = [submit(queue), submit(queue)]
    stepping, being_read = take_one(claims), take_one(claims)
    active = active_job()
    thawed._running[active] = RunningJob(stepping.record, stepping.execution, active=active)
    thawed._readers.claims.append(being_read)
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
    claims = Claims(client, {"other": runner}, "other-models")
    worker = RqBase(client, claims.queues, name="other-models")
    clock.now += 10 * 86400
    assert worker.recover() == []
    worker.tidy()
    assert claims.take(worker.queues, []) == []
    assert queue.status(job_id).state is JobState.QUEUED
    assert client.ttl(f"rq:job:{job_id}") == -1


def test_all_jobs_count_from_acceptance_to_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that no request waits for, as the page's and the client's; the alert of slow jobs reads these."""
    registry = CollectorRegistry()
    monkeypatch.setattr("difuso.worker.metrics.time.time", lambda: 20.0)
    job = SimpleNamespace(kind="generate", model="tiny", accepted_at=5.0, params=SimpleNamespace(sampler="ddim"))
    active, metrics = SimpleNamespace(claimed_at=7.0, job=job), WorkerMetrics(registry)
    for outcome in ("succeeded", "failed", "cancelled"):
        metrics.finished(cast(Any, active), outcome)
    assert registry.get_sample_value("difuso_end_to_end_seconds_count") == 1
    assert registry.get_sample_value("difuso_end_to_end_seconds_sum") == 15


def held(queued: keys.QueueName, active: ActiveJob) -> RunningJob:
    record = SimpleNamespace(queue=queued, id=active.job.id)
    return RunningJob(cast(Any, record), uuid.uuid4().hex, active=active)


def active_job() -> ActiveJob:
    job = SimpleNamespace(id=str(uuid.uuid4()), model="tiny", ref=REF, refs=(REF,), urgency=3)
    return ActiveJob(cast(Any, job), cast(Any, None), cast(Any, None))
