"""Which of the T training timesteps a run of `steps` network calls visits."""

from __future__ import annotations

from .errors import PlanError


def _linspace(steps: int, total: int) -> list[int]:
    # Both ends included; a cumulative float and banker's rounding, as improved-diffusion's space_timesteps does,
    # so that the lists are the published ones.
    stride = (total - 1) / (steps - 1) if steps > 1 else 1.0
    position, taken = 0.0, []
    for _ in range(steps):
        taken.append(round(position))
        position += stride
    return taken


def _leading(steps: int, total: int) -> list[int]:
    # The published lists where steps divides total. Elsewhere diffusers keeps the stride total // steps and begins too
    # late (501 of 1000 steps would begin at 500, where pure noise is no x_t); this one stays even.
    return [i * total // steps for i in range(steps)]


def _trailing(steps: int, total: int) -> list[int]:
    return [total - 1 - round(i * total / steps) for i in reversed(range(steps))]


SPACINGS = {"linspace": _linspace, "leading": _leading, "trailing": _trailing}


def space_timesteps(spacing: str, steps: int, total: int) -> tuple[int, ...]:
    """Strictly increasing timesteps, exactly `steps` of them.

    Args:
        spacing: `linspace` (both ends), `leading` (starts at 0) or `trailing` (ends at T-1).
        steps: number of network calls, 1..total.
        total: number of timesteps to choose from, T.

    Raises:
        PlanError: if the spacing is unknown or `steps` does not lie in 1..total.
    """
    if spacing not in SPACINGS:
        raise PlanError(f"unknown spacing {spacing!r}: choose one of {', '.join(SPACINGS)}")
    if not 1 <= steps <= total:
        raise PlanError(f"steps must lie between 1 and {total}, got {steps}")
    timesteps = tuple(SPACINGS[spacing](steps, total))
    assert len(set(timesteps)) == steps
    assert 0 <= timesteps[0] <= timesteps[-1] < total
    return timesteps
