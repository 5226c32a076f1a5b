"""Links in the OpenAPI description, from an answer that names a job to the operations on this job."""

from typing import Any

# Every answer about a job has this header, whatever its format.
JOB_ID = "$response.header.X-Job-Id"
TARGETS: dict[str, dict[str, str]] = {
    "get_job": {},
    "cancel_job": {},
    "follow_job": {},
    "get_images": {},
    "get_image": {"index": "0"},  # a text, as OpenAPI's own schema asks
    "delete_images": {},
}
JOB_LINKS: dict[str, Any] = {
    name: {"operationId": name, "parameters": {"job_id": JOB_ID, **others}} for name, others in TARGETS.items()
}
