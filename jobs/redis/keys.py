"""The names of all keys that front ends and workers have in Redis, besides those of RQ."""

WORKERS = "difuso:workers"  # hash: worker name -> WorkerReport


def queue_name(model: str, urgency: int) -> str:
    """RQ queue of a model and an urgency; workers look at the queues in the order of urgency."""
    return f"difuso.{model}.{urgency}"


def model_of(queue: str) -> str:
    """Returns the model of a queue by its name."""
    return queue.removeprefix("difuso.").rpartition(".")[0]


def progress(job_id: str) -> str:
    """String: the `Progress` of a job (JSON), written by its worker only."""
    return f"difuso:progress:{job_id}"


def timesteps(job_id: str) -> str:
    """String: the timesteps of a job's network calls (JSON list), written once, because they may be long."""
    return f"difuso:timesteps:{job_id}"


def cancel(job_id: str) -> str:
    """String: exists if the job is to be cancelled; unlike a message, a key cannot be missed."""
    return f"difuso:cancel:{job_id}"


def backlog(model: str) -> str:
    """Hash: job id -> image-steps left to do."""
    return f"difuso:backlog:{model}"


def wake(model: str) -> str:
    """List: tokens that idle workers block on, for "there may be work". A lost token costs a second, not a job."""
    return f"difuso:wake:{model}"


def index(owner: str | None) -> str:
    """Sorted set: job id -> time of acceptance, of the jobs of an owner; None without API keys."""
    return f"difuso:index:{owner or ''}"


def shares(owner: str) -> str:
    """Hash: job id -> image-steps and time of reservation, of the jobs of an owner with limits."""
    return f"difuso:shares:{owner}"


def account(owner: str) -> str:
    """Hash: the balance in image-steps of an owner with a rate, and the time of that balance."""
    return f"difuso:account:{owner}"


def room(owner: str) -> str:
    """Hash: the balance in bytes of an owner whose stored bytes are limited, and the time of that balance."""
    return f"difuso:room:{owner}"
