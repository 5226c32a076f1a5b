"""Freed memory: kept for the next call, and given back when it is asked for."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

# Takes and frees 8 MB again and again, and prints the page faults; in a process of its own, for it changes the heap.
PROGRAM = """
import resource
from pathlib import Path

import torch

from difuso.model.memory import give_back, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

torch.set_num_threads(1)
keep_freed_memory()
def call():
    return [torch.ones(1 << 20) for _ in range(2)]
for _ in range(10):  # until tensors have found their places, which depend on where the heap lies
    call()
before = faults()
for _ in range(20):
    call()
print(faults() - before)
held = [torch.ones(1 << 12) for _ in range(1 << 12)]
del held
before = resident_mb()
give_back()
print(before - resident_mb())
"""

needs_glibc = pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")), reason="only glibc has mallopt"
)


@pytest.mark.slow
@needs_glibc
def test_a_call_finds_the_memory_of_the_last_one() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=50)
    faults, megabytes_given_back = map(float, done.stdout.split())
    assert faults < 100  # of 20 calls; otherwise 2048 of each
    assert megabytes_given_back > 30
