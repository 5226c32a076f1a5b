"""The store is tried before a job is accepted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from difuso.app import store_access
from difuso.app.store_access import StoreProbe
from difuso.jobs.errors import StoreUnavailable
from tests.waiting import wait_until


class Store:
    """A store that counts the tries; it may be full, or hang until it is `released`."""

    def __init__(self) -> None:
        self.full, self.hangs, self.tries = False, False, 0
        self.released = threading.Event()

    def check(self) -> None:
        self.tries += 1
        if self.hangs:
            self.released.wait(10)
            raise StoreUnavailable
        if self.full:
            raise StoreUnavailable


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def probe(store: Store) -> StoreProbe:
    return StoreProbe(cast(Any, store))


@pytest.mark.parametrize("full", [False, True])
def test_a_crowd_costs_one_try(store: Store, probe: StoreProbe, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    monkeypatch.setattr(store_access, "FRESH_SECONDS", 600)
    store.full = full
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(probe.takes_files) for _ in range(100)]
        assert {answer.result() for answer in answers} == {not full}
    assert store.tries == 1


def test_what_was_found_is_forgotten_after_a_while(
    store: Store, probe: StoreProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_access, "FRESH_SECONDS", 0)
    for full in (False, True, True, False):
        store.full = full
        assert probe.takes_files() is not full
    assert store.tries == 4


def test_a_store_that_hangs_holds_one_thread(store: Store, probe: StoreProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others get the last answer while one tries again."""
    monkeypatch.setattr(store_access, "FRESH_SECONDS", 0)
    store.full = True
    assert not probe.takes_files()
    store.hangs = True
    with ThreadPoolExecutor(1) as pool:
        trying = pool.submit(probe.takes_files)
        wait_until(lambda: store.tries == 2, 10, "a thread tries again")
        assert [probe.takes_files() for _ in range(20)] == [False] * 20
        assert not trying.done()
        store.released.set()
        assert not trying.result()
    assert store.tries == 2


def test_a_try_delays_only_who_makes_it_until_the_last_one_is_too_old(
    store: Store, probe: StoreProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.takes_files()
    monkeypatch.setattr(store_access, "FRESH_SECONDS", 0)
    monkeypatch.setattr(store_access, "STALE_SECONDS", 600)
    store.hangs = True
    with ThreadPoolExecutor(2) as pool:
        trying = pool.submit(probe.takes_files)
        wait_until(lambda: store.tries == 2, 10, "a thread tries again")
        assert [probe.takes_files() for _ in range(20)] == [True] * 20
        monkeypatch.setattr(store_access, "STALE_SECONDS", 0)
        waiting = pool.submit(probe.takes_files)
        store.released.set()
        assert not trying.result()
        assert not waiting.result()
