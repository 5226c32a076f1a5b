"""Traces of jobs with OpenTelemetry; imported only if traces are exported.

The spans of a job are written when it leaves this worker, from times that were noted before. So no span is open while a
job waits, moves to another worker or is lost.
"""

import time

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import SpanKind, StatusCode, TracerProvider

from difuso.jobs.redis import keys

from .engine.active import ActiveJob
from .engine.results import Spent


class JobSpans:
    """Writes one span for each job that leaves this worker, below the request that asked for it.

    Attributes are named by OpenTelemetry's conventions for messaging, or begin with `difuso.`.

        job
        ├── queue       from acceptance to claim
        ├── denoise     from claim to the last step; shares its batches with other jobs
        ├── encode      encoding the images as PNG
        └── store       writing them to the result store
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("difuso.worker", tracer_provider=provider)

    def left(self, active: ActiveJob, outcome: str, spent: Spent | None = None) -> None:
        """Writes the spans of a job that has left this worker, and the time spent on its images if they were stored.

        The outcome is `succeeded`, `failed`, `cancelled`, `handed back` or `lost`.
        """
        job, now = active.job, time.time()
        stored = spent.ended_at if spent else now
        encoded = stored - spent.store_seconds if spent else now
        denoised = encoded - spent.encode_seconds if spent else now
        parent = extract({"traceparent": job.traceparent}) if job.traceparent else None
        facts: dict[str, str | int] = {
            "messaging.system": "rq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": str(keys.QueueName.of(job)),
            "messaging.message.id": job.id,
            "difuso.job.id": job.id,
            "difuso.job.kind": job.kind,
            "difuso.job.model": job.model,
            "difuso.job.version": job.version,
            "difuso.job.outcome": outcome,
            "difuso.job.sampler": job.params.sampler,
            "difuso.job.steps": job.params.steps,
            "difuso.job.images": job.params.n,
        }
        span = self._tracer.start_span("job", parent, SpanKind.CONSUMER, facts, start_time=_ns(job.accepted_at))
        if outcome == "failed":
            span.set_status(StatusCode.ERROR)
        work = {
            "difuso.image_steps": active.image_steps - active.resumed_at,
            "difuso.network_calls": active.network_calls,
            "difuso.network_seconds": active.denoise_seconds,
        }
        inside = trace.set_span_in_context(span, parent)
        parts = [("queue", job.accepted_at, active.claimed_at), ("denoise", active.claimed_at, denoised)]
        if spent:
            parts += [("encode", denoised, encoded), ("store", encoded, stored)]
        for name, start, end in parts:
            attributes = work if name == "denoise" else None
            self._tracer.start_span(name, inside, start_time=_ns(start), attributes=attributes).end(_ns(end))
        span.end(_ns(now))


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
