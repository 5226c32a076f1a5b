"""Translates the schedulers of diffusers that know noise levels and no betas: flow matching and EDM (0.42)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from difuso.model.plans.schedule import NoiseSchedule

from .levels import as_list, grid_of

FLOW, FLOW_HEUN = "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"
FLOWS = (FLOW, FLOW_HEUN)
FLOW_STEPS = 28
# The values that the fields of a flow's scheduler must have: others are settings of a call, or of other networks.
FLOW_FIELDS = {"use_dynamic_shifting": False, "invert_sigmas": False, "stochastic_sampling": False}
HEUN_STEPS = 55  # of `heun`, as many calls as the 28 steps of FlowMatchHeunDiscreteScheduler

# Ours by `solver_order` from 1 on, and the number of steps.
EDM: dict[str, tuple[tuple[str, ...], int]] = {
    "EDMEulerScheduler": (("euler",), 50),
    "EDMDPMSolverMultistepScheduler": (("euler", "dpmpp", "dpmpp_3m"), 25),
}
EDM_FIELDS = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "euler_at_final": False}


def flow_from_diffusers(content: Mapping[str, Any], *, total: int, shift: float) -> dict[str, Any]:
    """Returns what `scheduler_from_diffusers` does, with the timesteps that the scheduler visits by default."""
    for name, value in FLOW_FIELDS.items():
        if (content.get(name) or False) != value:
            raise ValueError(f"{name} must be {value}, not {content[name]!r}")
    if shift < 1:
        raise ValueError(f"shift must be at least 1, not {shift}")
    model = {
        "schedule": {"type": "flow", "num_train_timesteps": total, "shift": shift},
        "prediction": "flow",
        "variance": "fixed_small",
        "clip": {"mode": "none"},
    }
    if content["_class_name"] == FLOW_HEUN:
        defaults = {"sampler": "heun", "steps": min(HEUN_STEPS, total), "spacing": "karras"}
        return {**model, "defaults": defaults, "instead_of": f"{FLOW_HEUN}: its steps are straight in time"}
    steps = min(FLOW_STEPS, total)
    # The shift applies to the ends of the times, and then to each of them.
    s = np.linspace(shift / (shift + total - 1), 1.0, steps)
    s = shift * s / (1 + (shift - 1) * s)
    if terminal := content.get("shift_terminal"):
        s = 1 - (1 - s) / ((1 - s[0]) / (1 - terminal))
    grid = grid_of(content, float(s[0]), float(s[-1]), steps)
    s = s if grid is None else grid
    timesteps = total * s / (shift - (shift - 1) * s) - 1
    spacing = "at:" + ",".join(f"{max(t, 0.0):.6f}" for t in timesteps)
    return {**model, "defaults": {"sampler": "euler", "steps": steps, "spacing": spacing}, "instead_of": None}


def edm_from_diffusers(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `scheduler_from_diffusers` does, and the preconditioning (Karras et al. 2022, table 1)."""
    kind = content["_class_name"]
    if (prediction := content.get("prediction_type", "epsilon")) != "epsilon":
        raise ValueError(f"prediction_type must be epsilon, not {prediction!r}, which has the opposite sign")
    if content.get("thresholding"):
        raise ValueError("thresholding must be false")
    samplers, steps = EDM[kind]
    order = content.get("solver_order", 2) if len(samplers) > 1 else 1
    if order not in (1, 2, 3):
        raise ValueError(f"solver_order must be 1 to 3, not {order!r}")
    total, low, high = (
        content.get(name, value)
        for name, value in (("num_train_timesteps", 1000), ("sigma_min", 0.002), ("sigma_max", 80.0))
    )
    schedule = {"type": "geometric", "num_train_timesteps": total, "sigma_min": low, "sigma_max": high}
    steps = max(1, min(steps, total // 2))
    grid = {"use_karras_sigmas": content.get("sigma_schedule", "karras") == "karras", "use_exponential_sigmas": True}
    sigmas = grid_of(grid, low, high, steps, rho=content.get("rho", 7.0))
    assert sigmas is not None
    built = NoiseSchedule.geometric(total, low, high)
    sigmas[0], sigmas[-1] = low, high  # not to leave the schedule by a rounding error
    end = low if content.get("final_sigmas_type") == "sigma_min" else None
    spacing = as_list(built, built.timestep_at(sigmas), sigmas, end)
    differs = next((name for name, value in EDM_FIELDS.items() if content.get(name, value) != value), None)
    reason = f"its {differs} {content[differs]} is not known here" if differs else None
    if order == 3:
        reason = "its last step but one is of third order"
    return {
        "schedule": schedule,
        "prediction": "x0",
        "preconditioning": {"kind": "edm", "sigma_data": content.get("sigma_data", 0.5)},
        "variance": "fixed_small",
        "clip": {"mode": "none"},
        "defaults": {
            "sampler": samplers[order - 1],
            "steps": spacing.count(",") + (end is None),
            "spacing": spacing,
        },
        "instead_of": reason and f"{kind}: {reason}",
    }
