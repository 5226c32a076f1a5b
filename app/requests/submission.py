"""From a complete request to its answer: queues the job, waits and returns its images; or answers with its price.

Whatever a request has sent is dropped before the wait, which may last for minutes: `Waiting` has none of it.
"""

import logging
import uuid
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response
from redis import RedisError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from difuso.jobs.catalog import Catalog, ModelInfo
from difuso.jobs.contract import Job, JobState, new_job
from difuso.jobs.cost import Cost, cost_of
from difuso.jobs.errors import JobNotFound, JobsError, StoreUnavailable
from difuso.jobs.kinds.base import Prepared
from difuso.jobs.queries import SamplingQuery
from difuso.jobs.redis.backlog import Backlog
from difuso.jobs.redis.events import Inbox
from difuso.jobs.redis.limits import UNLIMITED, Limits, Refusal
from difuso.jobs.redis.status import JobStatus
from difuso.jobs.redis.webhooks import Webhook
from difuso.jobs.telemetry import traceparent

from ..errors import AppError, InvalidRequest, Overloaded
from ..formats import Format
from ..http.api_keys import ApiKey
from ..http.headers import (
    Accept,
    IdempotencyKeyHeader,
    Preference,
    PreferHeader,
    PriorityHeader,
    read_idempotency_key,
    read_preference,
    read_urgency,
)
from ..http.middleware import CLIENT_GONE
from . import answers
from .admission import admit, check_served, check_size, drawing_ref, job_timeout, rate_limit_headers, share_refused
from .deps import Process, read_accept
from .views import Price, price_text
from .watching import ClientGone

log = logging.getLogger(__name__)

# A job id is made from the Idempotency-Key, so that a repeated request finds its job without any further record.
KEY_NAMESPACE = uuid.UUID("b7b5b1de-6e0c-5d43-9a0f-0c7cf3a8f6c1")


@dataclass(frozen=True)
class Submission:
    """A request for a job of any kind: its headers, the process that answers it, and the id of its job.

    `known` is the job if it exists already, because the request is a repeated one.
    """

    process: Process
    caller: ApiKey | None
    request_id: str
    accept: Accept
    preference: Preference
    urgency: int
    idempotency_key: str | None
    id: str
    known: Job | None

    @property
    def catalog(self) -> Catalog:
        """The catalog as the job draws with it; since a known one was accepted, the shares may have changed."""
        catalog = self.process.catalog
        return catalog.for_job(self.id) if self.known is None else catalog.with_first(self.known.versions)

    async def answer(self, model: ModelInfo, query: SamplingQuery, prepared: Prepared) -> Response:
        """Queues the job; returns an answer that waits for its images, or is 202 with the job if that takes too long.

        The query as it was sent lets a repeated request be recognised.
        """
        return await self._limited(self._answer(model, query, prepared))

    async def finish(self, status: JobStatus, inbox: Inbox | None, receive: Receive) -> Response:
        """Waits for the images of a queued job; returns them, or 202 with the job if that takes too long.

        The `inbox` hears of its end, if only this request can have submitted it.
        """
        return await self._limited(self._finish(status, inbox, receive))

    async def price(self, model: ModelInfo, query: SamplingQuery, prepared: Prepared) -> Response:
        """Answers with the price of a new job, which is refused as the job would be. Nothing is written."""
        return await self._limited(self._answer_price(self._job(model, query, prepared), cost_of(prepared, model)))

    async def _limited(self, answering: Awaitable[Response]) -> Response:
        """Gives an answer, also a refusal, the RateLimit headers of a caller with limits."""
        try:
            response = await answering
        except AppError as error:
            error.headers = await self._rate_limit()
            raise
        if not isinstance(response, Waiting):  # which has them when it is sent
            response.headers.update(await self._rate_limit())
        return response

    async def _rate_limit(self) -> dict[str, str]:
        if self.caller is None or not self.caller.limits.are_set:
            return {}
        try:
            usage = await run_in_threadpool(self.process.queue.usage, self.caller.name, self.caller.limits)
        except RedisError:  # the job is accepted or refused already
            return {}
        return rate_limit_headers(self.caller.limits, usage, kept_seconds=self.process.settings.result_ttl)

    async def _answer(self, model: ModelInfo, query: SamplingQuery, prepared: Prepared) -> Response:
        job = self._job(model, query, prepared)
        hashes = [image.sha256 for image in job.pictures]
        request_hash = query.request_hash(job.kind, hashes, prepared.sent_values)
        waits = self.preference.seconds > 0
        inbox = self.process.listener.expect(job.id) if waits and self.idempotency_key is None else None
        listener = None if inbox is None else self.process.listener.name
        cost = cost_of(prepared, model)
        new, status = await run_in_threadpool(self._submit, job, request_hash, prepared, cost, listener, query.webhook)
        if new:
            self.process.metrics.accepted.labels(job.kind, job.model).inc()
            facts = {"model": job.model, "version": job.version, "image_steps": job.image_steps}
            log.info("job accepted", extra={"job_id": job.id, **facts})
        return Waiting(self, status, inbox) if waits else await self._respond(status)

    async def _finish(self, status: JobStatus, inbox: Inbox | None, receive: Receive) -> Response:
        seconds = self.preference.seconds
        try:
            status = await self.process.watcher.wait(status, receive, self.caller, seconds=seconds, inbox=inbox)
        except ClientGone:
            if self.idempotency_key is None:  # with a key the client can come back for the images
                await run_in_threadpool(self._cancel, status.job.id)
            return Response(status_code=CLIENT_GONE)
        return await self._respond(status)

    async def _answer_price(self, job: Job, cost: Cost) -> Response:
        price = await run_in_threadpool(self._price, job, cost)
        return Response(price_text(price), media_type=Format.JSON)

    async def _respond(self, status: JobStatus) -> Response:
        done = self.preference.seconds > 0 and status.state.is_terminal
        try:
            response = (
                await answers.images(status, self.process, self.accept, key=self.caller)
                if done
                else answers.accepted(status, self.caller)
            )
        except Overloaded:  # the client can fetch the images later
            response = answers.accepted(status, self.caller)
        if self.preference.applied:
            response.headers["Preference-Applied"] = self.preference.applied
        return response

    def _job(self, model: ModelInfo, query: SamplingQuery, prepared: Prepared) -> Job:
        if query.webhook is not None:
            self.process.webhooks.check(query.webhook, self.caller)
        return new_job(
            model.name,
            prepared,
            id=self.id,
            tag=query.tag,
            versions=model.versions,
            pinned=query.version is not None,
            urgency=self.urgency,
            timeout=job_timeout(prepared.image_steps, max_wait=self.process.settings.max_wait),
            owner=self.caller.name if self.caller else None,
            request_id=self.request_id,
            traceparent=traceparent(),
        )

    @property
    def _limits(self) -> Limits:
        return self.caller.limits if self.caller else UNLIMITED

    def _submit(
        self,
        job: Job,
        request_hash: str,
        prepared: Prepared,
        cost: Cost,
        listener: str | None,
        webhook: str | None,
    ) -> tuple[bool, JobStatus]:
        """Returns whether the job is new, and its status."""
        rate = None
        if self.known is None:  # a repeated request adds no work
            backlog = self._admit(job, cost)
            rate = backlog.rate
            if backlog.asleep and not backlog.jobs:
                self.process.queue.note_asked(job.model)
            if prepared.uploads:
                self._check_share(job, cost, rate)  # so that a request that is refused stores nothing
            for each in prepared.uploads:  # before the job, so that no queued job lacks them
                self.process.store.write_upload(job.id, each.sha256, each.file)
        new = self.process.queue.submit(
            job, request_hash=request_hash, cost=cost, limits=self._limits, listener=listener, webhook=webhook
        )
        if isinstance(new, Refusal):
            raise share_refused(new, cost, self._limits, rate=rate)
        called = None if webhook is None else Webhook(url=webhook)
        accepted = JobStatus(job=job, state=JobState.QUEUED, webhook=called)
        if new and self.preference.seconds > 0:
            return new, accepted  # whoever waits reads the rest
        try:
            return new, self.process.queue.status(job.id)
        except RedisError:
            if not new:
                raise
            return new, accepted  # the job is accepted, so the caller must get its id

    def _price(self, job: Job, cost: Cost) -> Price:
        self._check_share(job, cost, self._admit(job, cost).rate)
        return Price.of(job, cost, self.process.queue.forecast(job))

    def _admit(self, job: Job, cost: Cost) -> Backlog:
        """Raises unless there is room for a new job; returns the work before it."""
        check_size(cost, self._limits)
        backlog = self.process.queue.backlog(job.ref, job.urgency)
        check_served(job, backlog.workers, asleep=backlog.asleep)
        if (ref := drawing_ref(job, backlog.workers)) != job.ref:  # to which both are bound
            backlog = self.process.queue.backlog(ref, job.urgency).after(backlog)
        admit(backlog, max_wait=self.process.settings.max_wait, max_jobs=self.process.settings.max_jobs)
        if not self.process.probe.takes_files():
            raise StoreUnavailable
        return backlog

    def _check_share(self, job: Job, cost: Cost, rate: float | None) -> None:
        """Raises LimitReached if the job's owner has no share left for it. Nothing is written."""
        refused = self.process.queue.refusal(job, cost, self._limits)
        if refused is not None:
            raise share_refused(refused, cost, self._limits, rate=rate)

    def _cancel(self, job_id: str) -> None:
        try:
            self.process.queue.cancel(job_id)
        except (RedisError, JobsError):
            log.warning("a job whose client has gone could not be cancelled", extra={"job_id": job_id})


class Waiting(Response):
    """The answer to a request whose job is queued. It waits for the images when it is sent."""

    def __init__(self, submission: Submission, status: JobStatus, inbox: Inbox | None) -> None:
        super().__init__()
        self._submission = submission
        self._status = status
        self._inbox = inbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._submission.finish(self._status, self._inbox, receive)
        await response(scope, receive, send)


async def _submission(
    request: Request,
    prefer: PreferHeader = None,
    priority: PriorityHeader = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> Submission:
    """Reads all headers itself, because FastAPI passes only one of those that are sent repeatedly."""
    process: Process = request.state.process  # not as dependencies, which FastAPI would resolve for each job
    accept, sent = read_accept(request), request.headers.getlist
    keys = sent("idempotency-key")
    key = read_idempotency_key(keys[0]) if len(keys) == 1 else None
    if keys and key is None:
        detail = "Input should be one key of 1 to 255 printable ASCII characters, preferably in quotation marks"
        raise InvalidRequest("header", "Idempotency-Key", detail)
    longest = process.settings.sync_wait
    preference = read_preference(", ".join(sent("prefer")), longest=longest, otherwise=longest)
    urgency = read_urgency(", ".join(sent("priority")))
    caller: ApiKey | None = request.state.caller
    id, known = _job_id(key, caller), None
    if key is not None:
        with suppress(JobNotFound):
            known = (await run_in_threadpool(process.queue.status, id, outlook=False)).job
    return Submission(process, caller, request.state.request_id, accept, preference, urgency, key, id, known)


def _job_id(key: str | None, caller: ApiKey | None) -> str:
    """Returns the id that belongs to an Idempotency-Key of a caller, or a new one without a key."""
    if key is None:
        return str(uuid.uuid4())
    namespace = uuid.uuid5(KEY_NAMESPACE, caller.name) if caller else KEY_NAMESPACE
    return str(uuid.uuid5(namespace, key))


SubmissionDep = Annotated[Submission, Depends(_submission)]
