"""Links in the OpenAPI description, from an answer that names a job to the operations on this job."""

from __future__ import annotations

from typing import Any

# Every answer about a job has this header, whatever its format.
JOB_ID = "$response.header.X-Job-Id"
TARGETS = {
    "job": ("/jobs/{job_id}", "get"),
    "cancel": ("/jobs/{job_id}", "delete"),
    "events": ("/jobs/{job_id}/events", "get"),
    "image": ("/jobs/{job_id}/image", "get"),
    "images": ("/jobs/{job_id}/images/{index}", "get"),
    "delete_images": ("/jobs/{job_id}/images", "delete"),
}


def _link(path: str, method: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {"job_id": JOB_ID, **({"index": 0} if "{index}" in path else {})}
    return {"operationRef": f"#/paths/{path.replace('/', '~1')}/{method}", "parameters": parameters}


JOB_LINKS = {name: _link(*target) for name, target in TARGETS.items()}
