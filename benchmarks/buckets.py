"""The runner alone, in this process: the speed of each batch size, and the sizes that agree bit for bit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from model import load_checkpoint
from model.folders.config import Precision
from model.noise import draw_noise, image_generator
from worker.stepping.runner import CPU_SLOTS, GPU_SLOTS, Runner
from worker.stepping.trajectory import Trajectory

WARM_CALLS = 2


@dataclass(frozen=True)
class Bucket:
    """One batch size.

    Attributes:
        exact: whether exact mode would use it.
        rate: image-steps a second.
        call_ms: milliseconds of a network call.
        between_ms: milliseconds from the end of a call to the start of the next one.
        share: the share of the time inside the network.
    """

    size: int
    exact: bool
    rate: float
    call_ms: float
    between_ms: float
    share: float


def measure_buckets(
    folder: Path, device: torch.device, precision: Precision, *, graphs: bool, seconds: float
) -> list[Bucket]:
    """Measures each batch size for `seconds` in a number format, on a GPU by CUDA graphs if `graphs`."""
    slots = CPU_SLOTS if device.type == "cpu" else GPU_SLOTS  # the same for both: each would choose its own
    exact, runner = (
        Runner(load_checkpoint(folder).in_precision(precision), device=device, slots=slots, exact=each, graphs=graphs)
        for each in (True, False)
    )
    found = [_measure(runner, size, seconds, exact=size in exact.buckets) for size in runner.buckets]
    del exact, runner
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the servers that follow need it
    return found


def _measure(runner: Runner, size: int, seconds: float, *, exact: bool) -> Bucket:
    checkpoint = runner.checkpoint
    plan = checkpoint.config.plan(checkpoint.schedule, steps=checkpoint.schedule.num_train_timesteps)
    generators = [image_generator(seed) for seed in range(size)]
    noise = draw_noise(generators, checkpoint.config.shape).to(runner.device)
    batch = [Trajectory(plan, generator, x, x, x) for generator, x in zip(generators, noise, strict=True)]

    def step() -> None:
        runner.step(batch)
        for trajectory in batch:
            trajectory.row %= len(plan)

    for _ in range(WARM_CALLS):
        step()
    begin, calls, network_seconds = time.perf_counter(), runner.network_calls, runner.network_seconds
    while (span := time.perf_counter() - begin) < seconds or runner.network_calls == calls:
        step()
    calls, network_seconds = runner.network_calls - calls, runner.network_seconds - network_seconds
    call_ms, between_ms = (1000 * each / calls for each in (network_seconds, span - network_seconds))
    return Bucket(size, exact, calls * size / span, call_ms, between_ms, network_seconds / span)
