"""Names of everything that front ends and workers keep in Redis besides RQ's own keys."""

from __future__ import annotations

WORKERS = "difuso:workers"  # hash: worker name -> WorkerReport


def queue_name(model: str, urgency: int) -> str:
    """One RQ queue per model and urgency, so that order is a matter of which queue is looked at first."""
    return f"difuso.{model}.{urgency}"


def progress(job_id: str) -> str:
    """Progress of a job (JSON), written by its worker only."""
    return f"difuso:progress:{job_id}"


def timesteps(job_id: str) -> str:
    """What the network is told for a job (JSON list): written once, since it may be long and never changes."""
    return f"difuso:timesteps:{job_id}"


def cancel(job_id: str) -> str:
    """Exists if the job is to be cancelled: data rather than a message, so that it cannot be missed."""
    return f"difuso:cancel:{job_id}"


def backlog(model: str) -> str:
    """Hash: job id -> image-steps that are still to do."""
    return f"difuso:backlog:{model}"


def wake(model: str) -> str:
    """A short list that idle workers block on: "there may be work". Losing it costs a second, no job."""
    return f"difuso:wake:{model}"


def shares(owner: str) -> str:
    """Hash: job id -> image-steps and since when, of jobs that an owner with limits has asked for."""
    return f"difuso:shares:{owner}"


def account(owner: str) -> str:
    """Hash: the image-steps that an owner with a rate may ask for, and when that was so."""
    return f"difuso:account:{owner}"
