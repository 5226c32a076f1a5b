"""The events of a job as server-sent events, which a browser's EventSource can follow across interruptions.

An id says what a client knows after the event. So a client that connects again with it gets only later events.
"""

import hashlib
from collections.abc import AsyncIterator

from fastapi.sse import ServerSentEvent

from jobs.contract import JobStatus
from jobs.redis.events import Preview

from ..http.api_keys import ApiKey
from .views import Outlook, job_text

RECONNECT_MILLISECONDS = 3000  # after which an EventSource connects again


def is_told(status: JobStatus, last_event_id: str | None) -> bool:
    """Returns whether a client has received the final event of a job."""
    return status.state.is_terminal and last_event_id == status.state


async def job_events(
    news: AsyncIterator[JobStatus | Preview], last_event_id: str | None, key: ApiKey | None
) -> AsyncIterator[ServerSentEvent]:
    """Yields `progress` at each change, `preview` with unfinished images, and at the end the job, named by its state.

    Args:
        news: the successive states of the job.
        last_event_id: the id of the last event that the client has received; None if it has received none.
        key: the API key of the caller; None if the server has no keys.
    """
    known, retry = last_event_id, RECONNECT_MILLISECONDS
    async for item in news:
        if isinstance(item, Preview):
            name, data = "preview", item.model_dump_json()
        elif item.state.is_terminal:
            name, data, known = item.state.value, job_text(item, key), item.state.value
        else:
            name, data = "progress", Outlook.of(item).model_dump_json(exclude_none=True)
            before, known = known, hashlib.sha256(data.encode()).hexdigest()[:16]
            if known == before:
                continue
        yield ServerSentEvent(event=name, raw_data=data, id=known, retry=retry)
