"""What operators may ask of a fleet, and how HTTP says it."""

from typing import Literal

Operation = Literal["pause", "resume", "cordon", "uncordon", "first"]

OPERATIONS: dict[Operation, tuple[str, str]] = {
    "pause": ("PUT", "/fleet/paused/{}"),
    "resume": ("DELETE", "/fleet/paused/{}"),
    "cordon": ("PUT", "/fleet/cordoned/{}"),
    "uncordon": ("DELETE", "/fleet/cordoned/{}"),
    "first": ("POST", "/jobs/{}/first"),
}
