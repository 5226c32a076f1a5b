"""The same jobs without a server: the engine in the caller's thread."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from jobs.contract import Job, JobKind, SamplingParams

from .active import EngineEvent, Finished, activate
from .engine import StepEngine
from .results import encode_images
from .runner import Runner


def generate(runner: Runner, params: SamplingParams) -> Iterator[float | list[bytes]]:
    """Makes pictures; yields the share done after each step, and at last the PNGs.

    Raises:
        PlanError: if the model has no such run.
        NonFiniteSample: if the network produced NaN or infinity.
    """
    name = runner.checkpoint.name
    job = Job(
        id=str(uuid.uuid4()), kind=JobKind.GENERATE, model=name, params=params, accepted_at=time.time(), timeout=2**31
    )
    events: list[EngineEvent] = []
    engine = StepEngine({name: runner}, events.append)
    active = activate(job, runner)
    engine.submit(active)
    finished = None
    while finished is None:
        engine.step()
        yield active.image_steps / params.image_steps
        finished = next((event for event in events if isinstance(event, Finished)), None)
        events.clear()
    if finished.error is not None:
        raise finished.error
    yield encode_images(active, runner.checkpoint)
