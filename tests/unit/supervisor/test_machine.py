"""What the supervisor finds out about a machine, from folders like the kernel's and a program like nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from difuso.supervisor.machine import count_gpus, emptiest_gpu, linux_cores, visible_gpus

LISTED = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-2222-3333-4444-555555555555)
  MIG 1g.10gb     Device  0: (UUID: MIG-66666666-7777-8888-9999-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaaaaaa-2222-3333-4444-555555555555)
"""


def cores(*groups: set[int]) -> tuple[frozenset[int], ...]:
    return tuple(map(frozenset, groups))


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content + "\n")


@pytest.fixture
def two_sockets(tmp_path: Path) -> Path:
    """The kernel's files of two sockets with two cores each, two processors a core, numbered as Linux does."""
    for processor in range(8):
        siblings = tmp_path / f"sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list"
        write(siblings, f"{processor % 4},{processor % 4 + 4}")
    write(tmp_path / "sys/devices/system/node/node0/cpulist", "0,2,4,6")
    write(tmp_path / "sys/devices/system/node/node1/cpulist", "1,3,5,7")
    return tmp_path


def test_processors_are_grouped_by_core_and_cores_by_numa_node(two_sockets: Path) -> None:
    assert linux_cores(range(8), two_sockets) == cores({0, 4}, {2, 6}, {1, 5}, {3, 7})


def test_only_processors_that_may_be_used_count(two_sockets: Path) -> None:
    assert linux_cores({0, 1, 5}, two_sockets) == cores({0}, {1, 5})


def test_where_the_kernel_says_nothing_each_processor_is_a_core(tmp_path: Path) -> None:
    assert linux_cores({3, 1}, tmp_path) == cores({1}, {3})


@pytest.mark.parametrize(
    ("quota", "count"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 4)]
)
def test_a_quota_of_processor_time_limits_the_cores(two_sockets: Path, quota: str, count: int) -> None:
    write(two_sockets / "proc/self/cgroup", "0::/difuso.service")
    write(two_sockets / "sys/fs/cgroup/difuso.service/cpu.max", quota)
    found = linux_cores(range(8), two_sockets)
    assert len(found) == count
    if count < 4:
        assert set(found) == {frozenset(range(8))}, "it pays for any of them, and another container may have the first"


@pytest.mark.parametrize(
    ("installed", "visible", "names"),
    [
        (2, None, ("0", "1")),
        (0, None, ()),
        (8, "6, 2", ("6", "2")),
        (8, "GPU-11111111-2222,MIG-66666666", ("GPU-11111111-2222", "MIG-66666666")),
        (8, "", ()),
        (8, "1,-1,2", ("1",)),  # as CUDA does
        (2, "0,7,1", ("0",)),
        (0, "0", ()),
    ],
)
def test_gpus_are_those_that_cuda_would_show(installed: int, visible: str | None, names: tuple[str, ...]) -> None:
    assert visible_gpus(installed, visible) == names


def test_nvidia_smi_counts_gpus(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ntest $1 = -L && cat <<'END'\n{LISTED}END\n")
    program.chmod(0o755)
    assert count_gpus(str(program)) == 2
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert count_gpus(str(program)) == 0
    assert count_gpus(str(tmp_path / "absent")) == 0


def test_a_training_takes_the_gpu_with_most_free_memory_if_nobody_has_chosen_one(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"

    def taken(*lines: str, device: str = "auto", **environment: str) -> dict[str, str]:
        program.write_text("#!/bin/sh\ncat <<'END'\n" + "".join(f"{line}\n" for line in lines) + "END\n")
        program.chmod(0o755)
        return emptiest_gpu(device, environment, str(program))

    several = ("GPU-1111, 900", "GPU-2222, 81000", "GPU-3333, [N/A]", "GPU-4444, 70000")
    assert taken(*several) == taken(*several, device="cuda") == {"CUDA_VISIBLE_DEVICES": "GPU-2222"}
    assert taken(*several, CUDA_VISIBLE_DEVICES="0") == {}
    assert taken(*several, device="cuda:1") == taken(*several, device="cpu") == {}
    assert taken("GPU-1111, 900") == taken("NVIDIA-SMI has failed") == taken() == {}
    assert emptiest_gpu("auto", {}, str(tmp_path / "absent")) == {}
