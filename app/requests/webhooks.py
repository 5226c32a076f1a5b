"""Webhooks: which of them requests may name, and their calls when the jobs have ended (Standard Webhooks)."""

import asyncio
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from anyio import CapacityLimiter, to_thread
from redis import RedisError

from difuso.jobs.errors import JobsError
from difuso.jobs.redis.queue import JobQueue
from difuso.jobs.redis.status import JobStatus
from difuso.jobs.redis.webhooks import Claim, Webhook, Webhooks

from ..errors import InvalidRequest
from ..http.api_keys import ApiKey, KeyRing
from ..http.metrics import Metrics
from ..settings import ApiSettings
from ..webhooks.hosts import WebhookHosts, host_of
from ..webhooks.signing import read_secrets, signature
from .views import job_text

if TYPE_CHECKING:  # a front end without webhooks does not need the memory
    import httpx

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
CALL_SECONDS = 10.0
AT_ONCE = 16  # calls of one front end
# Why there was no answer, as a job shows it.
NO_ADDRESS, NO_ANSWER, NO_NAME, NO_SECRET, NO_TIME = "forbidden", "connection", "name", "secret", "timeout"

T = TypeVar("T")


class _Forbidden(Exception):
    """All IP addresses of a host are on networks that must not be called."""


class WebhookCaller:
    """Calls webhooks, signed by the secrets of the job's owner in the file of API keys, or else by the setting's."""

    def __init__(
        self, settings: ApiSettings, records: Webhooks, queue: JobQueue, keys: KeyRing | None, metrics: Metrics
    ) -> None:
        self.records = records
        self._settings = settings
        self._hosts = WebhookHosts(settings.webhook_hosts)
        self._queue = queue
        self._keys = keys
        self._metrics = metrics
        self._busy = Counter[str]()  # calls, by owner
        self._threads = CapacityLimiter(AT_ONCE)

    def check(self, address: str, caller: ApiKey | None) -> None:
        """Raises InvalidRequest if a request of this caller may not name an address."""
        import httpx

        def refuse(detail: str) -> InvalidRequest:
            return InvalidRequest("parameter", "webhook", detail)

        if not self._settings.webhook_hosts:
            raise refuse("This server calls no webhooks: its operator has to set DIFUSO_WEBHOOK_HOSTS")
        if self._settings.webhook_secret_file is None and not self._own_secrets(caller.name if caller else None):
            raise refuse(
                "This server has no secret to sign webhooks with: its operator has to set DIFUSO_WEBHOOK_SECRET_FILE, "
                "or webhook_secret in the line of your API key"
            )
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL as error:
            raise refuse("Input should be an address such as https://hooks.example.com/difuso") from error
        if url.port is not None and not 0 < url.port < 65536:
            raise refuse("Input should have a port of 1 to 65535")
        if url.userinfo:
            raise refuse("Input should have no user and no password")
        if not self._hosts.lists(url):
            raise refuse(
                f"This server may not call {url.scheme}://{host_of(url)}: its operator has to list the host in "
                "DIFUSO_WEBHOOK_HOSTS"
            )

    async def run(self) -> None:
        """Calls what is due, for ever; cancelled, it leaves its calls to another front end."""
        import httpx

        context = await to_thread.run_sync(httpx.create_ssl_context)
        # A transport follows no redirects, keeps no cookies and asks no proxy.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits) as transport,
            asyncio.TaskGroup() as calls,
        ):
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                for claim in await self._claim():
                    self._busy[claim.owner] += 1
                    calls.create_task(self._attend(claim, transport))

    async def _claim(self) -> list[Claim]:
        busy = self._busy.copy()
        if busy.total() == AT_ONCE:
            return []
        try:
            return await self._in_thread(lambda: self.records.claim(AT_ONCE - busy.total(), busy))
        except RedisError:
            self._metrics.redis_errors.labels("webhooks").inc()
            return []

    async def _attend(self, claim: Claim, transport: "httpx.AsyncHTTPTransport") -> None:
        """Calls a webhook and reports what came of it. Whatever fails here is tried again when the lease is over."""
        try:
            status = await self._in_thread(lambda: self._queue.status(claim.job_id, outlook=False))
            answer = await self._call(claim, status, transport)
            webhook = claim.webhook.after(answer, random.random())
            if await self._in_thread(lambda: self.records.report(claim, webhook)):
                outcome = _outcome(webhook)
                self._metrics.webhooks.labels(outcome).inc()
                facts = {"job_id": claim.job_id, "outcome": outcome, "answer": answer, "attempts": webhook.attempts}
                log.info("webhook called", extra=facts)
        except RedisError:
            self._metrics.redis_errors.labels("webhooks").inc()
        except JobsError as error:  # a newer difuso can read the job, or it is forgotten
            log.info("a webhook waits: %s", type(error).__name__, extra={"job_id": claim.job_id})
        except Exception:
            log.exception("a webhook could not be called", extra={"job_id": claim.job_id})
        finally:
            self._busy -= Counter([claim.owner])

    async def _call(self, claim: Claim, status: JobStatus, transport: "httpx.AsyncHTTPTransport") -> int | str:
        """Returns the HTTP status of the answer, or why there was none."""
        import httpx

        url = httpx.URL(claim.webhook.url)
        secrets = await self._in_thread(lambda: self._secrets(status.job.owner))
        if not secrets:
            return NO_SECRET
        request = await self._in_thread(lambda: self._request(url, status, secrets))
        try:
            async with asyncio.timeout(CALL_SECONDS):
                request.url = url.copy_with(host=await self._in_thread(lambda: self._address_of(url)))
                response = await transport.handle_async_request(request)
                await response.aclose()  # its body stays unread
        except TimeoutError:
            return NO_TIME
        except _Forbidden:
            return NO_ADDRESS
        except (socket.gaierror, UnicodeError):
            return NO_NAME
        except httpx.HTTPError:
            return NO_ANSWER
        return response.status_code

    def _request(self, url: "httpx.URL", status: JobStatus, secrets: Sequence[str]) -> "httpx.Request":
        """Returns the signed request to an address, which says how a job ended."""
        import httpx

        job, at = status.job, int(time.time())
        body = _body(status, next(iter(self._keys_of(job.owner)), None))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "difuso",
            "webhook-id": job.id,
            "webhook-timestamp": str(at),
            "webhook-signature": " ".join(signature(secret, job.id, at, body) for secret in secrets),
        }
        # The certificate has to be of the host, although the address will be an IP address.
        return httpx.Request("POST", url, headers=headers, content=body, extensions={"sni_hostname": host_of(url)})

    def _address_of(self, url: "httpx.URL") -> str:
        """Returns the IP address of a host that is to be called; raises _Forbidden, socket.gaierror or UnicodeError."""
        places = socket.getaddrinfo(host_of(url), None, type=socket.SOCK_STREAM)
        found = [str(place[0]) for *_, place in places]
        allowed = [address for address in found if self._hosts.reaches(address)]
        if not allowed:
            raise _Forbidden
        return allowed[0]

    def _keys_of(self, owner: str | None) -> list[ApiKey]:
        return [key for key in self._keys.keys if key.name == owner] if self._keys else []

    def _own_secrets(self, owner: str | None) -> list[str]:
        return [key.webhook_secret for key in self._keys_of(owner) if key.webhook_secret is not None]

    def _secrets(self, owner: str | None) -> list[str]:
        """Returns the secrets that sign the webhooks of an owner; none while their file cannot be read."""
        own, file = self._own_secrets(owner), self._settings.webhook_secret_file
        try:
            return own or ([] if file is None else read_secrets(file))
        except ValueError as error:
            log.error("webhooks cannot be signed: %s", error)
            return []

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._threads, abandon_on_cancel=True)


def _body(status: JobStatus, key: ApiKey | None) -> bytes:
    """Returns the message about the end of a job, with links signed by its owner's key, if there are keys."""
    data = job_text(replace(status, webhook=None), key)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.ended_at or 0))
    return f'{{"type":"job.{status.state}","timestamp":"{at}","data":{data}}}'.encode()


def _outcome(webhook: Webhook) -> str:
    if webhook.delivered_at is not None:
        return "delivered"
    if webhook.next_at is not None:
        return "retried"
    return "gone" if webhook.status == 410 else "given_up"
