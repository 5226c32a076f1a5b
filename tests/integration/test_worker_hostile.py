"""Whoever can write to Redis neither chooses what a worker executes, nor ends it, nor fills its memory."""

from __future__ import annotations

import re
import sys
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from jobs.contract import JobState
from jobs.redis import keys
from tests.waiting import wait_until
from tests.worker_stack import Stack

GIGABYTE = 1 << 30


@pytest.mark.timeout(60)
def test_only_our_jobs_run(stack: Stack, tmp_path: Path) -> None:
    """Whoever can write to Redis cannot choose what a worker executes."""
    canary = tmp_path / "canary"
    queue = Queue(stack.tiny_queue, connection=stack.client, serializer=JSONSerializer)
    planted = [
        queue.enqueue("os.system", f"touch {canary}"),
        queue.enqueue("difuso.job", job={"contract": 99}),
    ]
    stack.client.hset("rq:job:garbage", mapping={"data": "no job", "created_at": "never"})
    stack.client.rpush(queue.key, "garbage", "nothing")
    stack.start_worker()
    good = stack.submit()
    wait_until(lambda: stack.states([good]) == {JobState.SUCCEEDED}, 30, "the good job has succeeded")
    assert [job.get_status() for job in planted] == ["failed", "failed"]
    assert not canary.exists()
    assert stack.client.llen(f"{queue.key}:intermediate") == 0


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_bytes_that_are_none_of_ours_end_no_worker(stack: Stack) -> None:
    worker, client = stack.start_worker(), stack.client
    stack.finish([stack.submit()], 30)
    queue, running = f"rq:queue:{stack.tiny_queue}", f"rq:wip:{stack.tiny_queue}"
    ids = [str(uuid.uuid4()) for _ in range(4)]
    bomb = zlib.compressobj()
    packet = b"".join(bomb.compress(bytes(1 << 24)) for _ in range(GIGABYTE >> 24)) + bomb.flush()
    record: dict[Any, Any] = {
        "origin": stack.tiny_queue,
        "status": "queued",
        "created_at": "2026-11-25T00:29:36.250000Z",
    }
    client.hset(f"rq:job:{ids[0]}", mapping=record | {"data": packet})
    client.hset(f"rq:job:{ids[1]}", mapping=record | {"data": zlib.compress(b"[" * 100_000)})
    client.set(f"rq:job:{ids[2]}", "no hash")
    client.hset(f"rq:job:{ids[3]}", mapping=record | {"data": zlib.compress(b'["\\ud800", null, [], {}]')})
    client.rpush(f"{queue}:intermediate", b"\xff\xfe", b"a:b:c", *ids)
    marks: list[Any] = [b"\xff\xfe", b"none", b"a:b:c", *(f"{job_id}:{'0' * 32}" for job_id in ids)]
    client.zadd(running, dict.fromkeys(marks, 1))
    client.hset(keys.backlog(stack.tiny.ref), mapping={b"\xff\xfe": 1, ids[2]: 1})
    client.hset(keys.WORKERS, b"\xff\xfe", b"\xff\xfe")
    client.rpush(queue, b"\xff\xfe", b"\x00", b"a:b:c", *ids)
    good = [stack.submit(seed=seed) for seed in range(3)]
    wait_until(lambda: all(map(stack.store.manifest, good)), 60, "the good jobs have their pictures")
    wait_until(lambda: not client.zcard(running), 60, "nothing seems to run any more")
    wait_until(lambda: not client.llen(f"{queue}:intermediate") + client.llen(queue), 60, "nothing waits any more")
    assert worker.poll() is None, stack.log(0)
    if sys.platform == "linux":
        peak = int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text())[0]) * 1024
        assert peak < GIGABYTE


@pytest.mark.timeout(240)
def test_keys_of_another_type_are_put_aside(stack: Stack) -> None:
    worker, client = stack.start_worker(), stack.client
    stack.finish([stack.submit()], 30)
    queue = f"rq:queue:{stack.tiny_queue}"
    lists = queue, f"{queue}:intermediate", keys.wake(stack.tiny.ref)
    others = f"rq:wip:{stack.tiny_queue}", keys.WORKERS, keys.backlog(stack.tiny.ref)
    for key in (*lists, *others):
        client.set(key, "something else")
    wait_until(lambda: not any(client.type(key) == b"string" for key in (*lists, *others)), 60, "all are put aside")
    stack.finish([stack.submit(seed=seed) for seed in range(3)], 60)
    assert worker.poll() is None, stack.log(0)


@pytest.mark.timeout(240)
def test_a_job_with_keys_of_another_type_ends_no_worker(stack: Stack) -> None:
    worker = stack.start_worker()
    wait_until(lambda: bool(stack.queue.workers()), 30, "the worker is ready")
    planted = Queue(stack.tiny_queue, connection=stack.client, serializer=JSONSerializer).create_job(
        "difuso.job", timeout=10
    )
    for name in ("rq:executions:", "rq:results:"):
        stack.client.set(f"{name}{planted.id}", "something else")
    Queue(stack.tiny_queue, connection=stack.client, serializer=JSONSerializer).enqueue_job(planted)
    stack.finish([stack.submit(seed=seed) for seed in range(3)], 60)
    assert worker.poll() is None, stack.log(0)
    assert stack.states(stack.in_flight()) in (set(), {JobState.FAILED})
