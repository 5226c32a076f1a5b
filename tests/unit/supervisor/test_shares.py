"""How many workers a machine gets, and that they never share a core or differ in threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from difuso.errors import UserError
from difuso.supervisor.machine import Machine
from difuso.supervisor.shares import Share, share_out, threads_of


def of_cores(count: int) -> Machine:
    """A machine without GPUs whose core i has the processors i and i + count."""
    return Machine(gpus=(), on_cpu=True, cores=tuple(frozenset({i, i + count}) for i in range(count)))


def of_gpus(*names: str, cores: int = 16) -> Machine:
    return Machine(gpus=names, on_cpu=False, cores=of_cores(cores).cores)


@pytest.mark.parametrize(
    ("cores", "workers"), [(1, 1), (2, 2), (3, 1), (8, 1), (15, 1), (16, 2), (24, 3), (31, 3), (64, 8), (128, 16)]
)
def test_on_a_cpu_every_eight_cores_get_a_worker_and_each_of_two(cores: int, workers: int) -> None:
    assert len(share_out(of_cores(cores), None)) == workers


def test_a_lone_worker_has_the_whole_machine() -> None:
    for machine in (of_gpus("0"), of_gpus("0", "1")):
        assert share_out(machine, 1) == [Share()]


def test_a_lone_worker_has_a_thread_for_each_core_that_a_quota_pays_for() -> None:
    """By itself torch would start one for each core of the machine."""
    assert share_out(of_cores(4), 1) == [Share({"OMP_NUM_THREADS": "4"})]
    assert share_out(of_cores(4), 1, threads=2) == [Share()]


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(16, None, 8), (31, None, 10), (7, 3, 2), (5, 4, 1), (3, 3, 1)]
)
def test_workers_have_equally_many_cores_of_their_own(cores: int, workers: int | None, threads: int) -> None:
    shares = share_out(of_cores(cores), workers)
    assert {share.environment["OMP_NUM_THREADS"] for share in shares} == {str(threads)}
    assert {len(share.processors) for share in shares} == {2 * threads}
    assert len(frozenset().union(*(share.processors for share in shares))) == 2 * threads * len(shares)  # disjoint


def test_two_workers_of_two_cores_lend_each_other_theirs(tmp_path: Path) -> None:
    shares = share_out(of_cores(2), 2)
    assert [share.core for share in shares] == [0, 1]
    assert not any(share.processors for share in shares)
    first, second = (share.environment_in(tmp_path) for share in shares)
    assert first == {"OMP_NUM_THREADS": "1", "OMP_PROC_BIND": "false", "DIFUSO_CORE_FOLDER": f"{tmp_path}/worker.0"}
    assert second == {**first, "DIFUSO_CORE_FOLDER": f"{tmp_path}/worker.1"}
    assert Share({"A": "1"}).environment_in(tmp_path) == {"A": "1"}
    assert [share.core for share in share_out(of_cores(4), 4)] == [None] * 4


def test_a_number_of_threads_that_is_set_is_kept() -> None:
    assert share_out(of_cores(2), None, threads=2) == [Share()]
    assert [share.core for share in share_out(of_cores(2), 2, threads=1)] == [None, None]
    shares = share_out(of_cores(8), 2, threads=3)
    assert [share.environment["OMP_NUM_THREADS"] for share in shares] == ["3", "3"]
    assert [share.processors for share in shares] == [{0, 1, 2, 8, 9, 10}, {4, 5, 6, 12, 13, 14}]
    assert share_out(of_cores(16), None, threads=16) == [Share()]


@pytest.mark.parametrize(
    ("workers", "threads", "message"),
    [
        (3, None, "3 workers need 3 cores, 1 for each, and there are 2: start fewer workers$"),
        (2, 2, "2 workers need 4 cores, 2 for each, .* or set a lower OMP_NUM_THREADS$"),
    ],
)
def test_more_threads_than_cores_are_refused(workers: int, threads: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        share_out(of_cores(2), workers, threads)


def test_each_gpu_gets_a_worker_that_sees_only_this_gpu() -> None:
    shares = share_out(of_gpus("3", "GPU-aa", cores=16), None)
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares] == ["3", "GPU-aa"]
    assert [share.environment["OMP_NUM_THREADS"] for share in shares] == ["8", "8"]
    assert not any(share.processors for share in shares)  # the system knows which cores are near a GPU, we do not


def test_several_workers_may_share_a_gpu() -> None:
    shares = share_out(of_gpus("0", "1", cores=2), 4)
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "1", "0", "1"]
    assert {share.environment["OMP_NUM_THREADS"] for share in shares} == {"1"}


def test_a_gpu_that_is_named_in_the_settings_gets_one_worker() -> None:
    machine = Machine(gpus=(), on_cpu=False, cores=of_cores(64).cores)
    assert share_out(machine, None) == [Share()]
    assert share_out(machine, 2) == [Share({"OMP_NUM_THREADS": "32"})] * 2


def test_where_processes_cannot_be_bound_there_is_one_worker_unless_more_are_wanted() -> None:
    machine = Machine(gpus=(), on_cpu=True, cores=(frozenset(),) * 24)
    assert share_out(machine, None) == [Share()]
    assert share_out(machine, 3) == [Share({"OMP_NUM_THREADS": "8"})] * 3


@pytest.mark.parametrize(
    ("value", "threads"), [(None, None), ("", None), ("4", 4), (" 4,2", 4), ("0", None), ("-1", None), ("many", None)]
)
def test_threads_are_those_that_openmp_reads(value: str | None, threads: int | None) -> None:
    assert threads_of({} if value is None else {"OMP_NUM_THREADS": value}) == threads
