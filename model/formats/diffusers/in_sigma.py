"""Translates the schedulers of diffusers that know noise levels and no betas: flow matching, EDM and IPNDM (0.42)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from difuso.model.plans.schedule import NoiseSchedule

from .levels import as_list, grid_of
from .solvers import FEW

FLOW, FLOW_HEUN = "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"
FLOWS = (FLOW, FLOW_HEUN)
FLOW_STEPS = 28
# The values that the fields of a flow's scheduler must have: others are settings of a call, or of other networks.
FLOW_FIELDS = {"use_dynamic_shifting": False, "invert_sigmas": False, "stochastic_sampling": False}

# Ours by `solver_order` from 1 on, and the number of steps.
EDM: dict[str, tuple[tuple[str, ...], int]] = {
    "EDMEulerScheduler": (("euler",), 50),
    "EDMDPMSolverMultistepScheduler": (("euler", "dpmpp", "dpmpp_3m_full"), 25),
}
EDM_FIELDS = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "euler_at_final": False}
IPNDM, IPNDM_STEPS = "IPNDMScheduler", 100
UNCLIPPED = {"variance": "fixed_small", "clip": {"mode": "none"}}


def flow_from_diffusers(content: Mapping[str, Any], *, total: int, shift: float) -> dict[str, Any]:
    """Returns what `scheduler_from_diffusers` does, with the timesteps that the scheduler visits by default."""
    for name, value in FLOW_FIELDS.items():
        if (content.get(name) or False) != value:
            raise ValueError(f"{name} must be {value}, not {content[name]!r}")
    if shift < 1:
        raise ValueError(f"shift must be at least 1, not {shift}")
    heun = content["_class_name"] == FLOW_HEUN
    count = (min(2 * FLOW_STEPS, total) + 1) // 2 if heun else min(FLOW_STEPS, total)
    # The shift applies to the ends of the times, and then to each of them.
    s = np.linspace(shift / (shift + total - 1), 1.0, count)
    s = shift * s / (1 + (shift - 1) * s)
    if (terminal := content.get("shift_terminal")) and not heun:
        s = 1 - (1 - s) / ((1 - s[0]) / (1 - terminal))
    grid = None if heun else grid_of(content, float(s[0]), float(s[-1]), count)
    s = s if grid is None else grid
    timesteps = total * s / (shift - (shift - 1) * s) - 1
    spacing = "at:" + ",".join(f"{max(t, 0.0):.6f}" for t in timesteps)
    sampler, steps = ("heun_flow", 2 * count - 1) if heun else ("euler", count)
    return {
        "schedule": {"type": "flow", "num_train_timesteps": total, "shift": shift},
        "prediction": "flow",
        "defaults": {"sampler": sampler, "steps": steps, "spacing": spacing},
        **UNCLIPPED,
    }


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
    if steps < FEW and (order == 3 or (order == 2 and end is not None)):
        reason = f"in fewer than {FEW} steps its last ones are of lower order"
    return {
        "schedule": schedule,
        "prediction": "x0",
        "preconditioning": {"kind": "edm", "sigma_data": content.get("sigma_data", 0.5)},
        "defaults": {
            "sampler": samplers[order - 1],
            "steps": spacing.count(",") + (end is None),
            "spacing": spacing,
        },
        "instead_of": reason and f"{kind}: {reason}",
        **UNCLIPPED,
    }


def ipndm_from_diffusers(content: Mapping[str, Any], *, total: int) -> dict[str, Any]:
    """Returns what `scheduler_from_diffusers` does, and the scale of the timesteps: the network knows 0 to 1.

    At the time u, x_t = cos(pi u / 2) x0 + sin(pi u / 2) eps. The square of an even grid's sines is that of the calls.
    """
    if content.get("trained_betas") is not None or total < 2:
        raise ValueError("trained_betas must be null, and num_train_timesteps at least 2")
    times = np.linspace(0, 1, total)
    times[0] = times[1] / 2  # no timestep is without noise
    abar = np.append(np.cos(np.pi / 2 * times[:-1]) ** 2, 0.0)
    schedule = NoiseSchedule.from_alphas_cumprod(abar)
    steps = min(IPNDM_STEPS, total // 2)
    spread = np.sin(np.linspace(0, np.pi / 2, steps + 1)[1:]) ** 2
    with np.errstate(divide="ignore"):
        sigmas = spread / np.sqrt(1 - spread**2)
    spacing = as_list(schedule, (total - 1) * np.arcsin(spread) / (np.pi / 2), sigmas, None)
    return {
        "network": {"timestep_scale": 1 / (total - 1)},
        "schedule": {"type": "listed", "num_train_timesteps": total, "betas": tuple(schedule.betas.tolist())},
        "prediction": "v",
        "defaults": {"sampler": "ipndm", "steps": steps, "spacing": spacing},
        **UNCLIPPED,
    }
