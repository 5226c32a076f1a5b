"""The simulated fleet's costs of Redis are those of the real code on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

import pytest
import redis

from benchmarks.fleet import redis_acts
from benchmarks.fleet.rates import FREE, Cost
from benchmarks.fleet.redis_acts import Acts, growing_costs, read


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def acts(client: redis.Redis) -> Acts:
    return Acts(client)


def test_commands_are_counted_as_redis_runs_them(client: redis.Redis) -> None:
    before = read(client)
    for _ in range(5):
        client.get("absent")
    client.eval("redis.call('GET', KEYS[1]); return redis.call('GET', KEYS[1])", 1, "absent")
    after = read(client)
    assert after.since(before).commands == 8
    assert after.calls["get"] - before.calls.get("get", 0) == 7
    assert sum(after.shares(before).values()) == pytest.approx(1)


def test_a_heartbeat_asks_for_the_state_of_every_unfinished_job(acts: Acts) -> None:
    acts.add_jobs(1)
    one = acts.cost("tidy")
    acts.add_jobs(30)
    assert acts.cost("tidy").commands == one.commands + 30


def test_ghosts_are_taken_for_live_workers_and_running_jobs(acts: Acts) -> None:
    """Else the acts would delete them, and a second look would cost less than the first."""
    acts.add_jobs(20)
    acts.add_workers(20)
    for act in ("post", "report", "tidy", "look"):
        assert acts.cost(act).commands == acts.cost(act).commands


def test_what_grows_with_the_fleet_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_acts, "GHOSTS", 300)
    costs = growing_costs(FREE)
    assert costs.beat_job.commands == pytest.approx(1)
    grown = (costs.beat_worker, costs.beat_job, costs.look_job, costs.post_worker, costs.post_job)
    assert all(cost.seconds > 0 for cost in grown)
    assert astuple(costs)[:4] == (astuple(Cost()),) * 4
