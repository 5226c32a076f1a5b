"""The sampler of ours, and its levels, that draws what a scheduler of diffusers draws (as of diffusers 0.42).

Where none does, the nearest sampler draws, and the reason is kept for people.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.schedule import FloatTable, NoiseSchedule
from difuso.model.plans.spacing import ends_at_noise

from .levels import GRIDS, as_list, grid_of, steps_meet, timesteps_of

EULER, ANCESTRAL, PNDM = "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "PNDMScheduler"
DEIS, DPM, SINGLESTEP = "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, KDPM2A, SDE = "UniPCMultistepScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"
LCM, HEUN, KDPM2 = "LCMScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"

# alphas_cumprod of the last timestep where a schedule with `rescale_betas_zero_snr` would leave nothing of the image
LEAST_ABAR = 2.0**-24
FEW = 15  # below so many steps the last ones of the multistep solvers are of lower order
LCM_LOWEST = 50  # below this timestep LCM's c_skip is more than 1e-6


class Solver(NamedTuple):
    """A scheduler that draws from a model of timesteps."""

    samplers: tuple[str, ...]  # ours, by `solver_order` from 1 on, where it has one
    steps: int  # those of its pipelines
    eta: float = 0.0
    # whether the timesteps are whole and leave out the first one of the spacing, and grids lie over the whole schedule;
    # if not, grids lie between the ends of the spacing
    whole: bool = False
    rounds_karras: bool = False
    # the values of fields with which it is our sampler: all others differ
    fields: Mapping[str, Any] = {}


MIDPOINT = {"solver_type": "midpoint", "algorithm_type": "dpmsolver++"}
PREDICTOR_CORRECTOR: dict[str, Any] = {
    "solver_type": "bh2",
    "predict_x0": True,
    "disable_corrector": [],
    "solver_p": None,
    "lower_order_final": True,
    "final_sigmas_type": "zero",
}
# Values of other schedulers, which are taken for these.
ALIASES = {"midpoint": ("logrho", "bh1", "bh2"), "bh2": ("midpoint", "heun", "logrho"), "dpmsolver++": ("deis",)}
OF_TIMESTEPS = {"interpolation_type": "linear"}
SOLVERS: dict[str, Solver] = {
    EULER: Solver(("euler",), 50, fields=OF_TIMESTEPS),
    # In x_t, the ancestral step of Euler's method is that of DDIM with eta 1.
    ANCESTRAL: Solver(("ddim",), 50, eta=1.0),
    HEUN: Solver(("heun",), 50),
    "LMSDiscreteScheduler": Solver(("lms",), 50),
    KDPM2: Solver(("dpm2",), 50, rounds_karras=True),
    KDPM2A: Solver(("dpm2_ancestral",), 50, rounds_karras=True),
    PNDM: Solver(("plms",), 50, fields={"skip_prk_steps": True}),
    DEIS: Solver(("ddim", "deis", "deis_3"), 25, whole=True, rounds_karras=True),
    DPM: Solver(("ddim", "dpmpp", "dpmpp_3m_full"), 25, 0.0, True, True, MIDPOINT),
    SINGLESTEP: Solver(("ddim", "dpmpp_2s", "dpmpp_2s"), 25, 0.0, True, True, MIDPOINT),
    UNIPC: Solver(("unipc", "unipc", "unipc"), 25, 0.0, True, True, PREDICTOR_CORRECTOR),
    SDE: Solver(("dpmpp",), 50, eta=1.0),
    LCM: Solver(("lcm",), 4, fields={"timestep_scaling": 10.0}),
}
# Ours, and eta, where the algorithm of DPM-Solver is `sde-dpmsolver++`.
WITH_NOISE = {"ddim": ("ddim", 1.0), "dpmpp": ("dpmpp_sde", 0.0)}
LIMITS = ("sigma_min", "sigma_max")  # fields with the ends of a grid
# The values for missing fields that are not those of others; DEIS has no such field and ends there.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
MISSING: dict[str, Mapping[str, Any]] = {
    PNDM: {"skip_prk_steps": False, "set_alpha_to_one": False, "timestep_spacing": "leading"},
    DEIS: {"final_sigmas_type": "sigma_min"},
    **dict.fromkeys((HEUN, KDPM2, KDPM2A, SDE), BETAS),
    LCM: {"beta_schedule": "scaled_linear", **BETAS},
}
# The schedulers that have a field, where others do not: a config may keep the fields of one that it was made from.
OWNERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(GRIDS, tuple(SOLVERS.keys() - {PNDM, ANCESTRAL, LCM})),
    "use_lu_lambdas": (DPM,),
    "final_sigmas_type": (EULER, DPM, SINGLESTEP, UNIPC),
    "lambda_min_clipped": (DPM, SINGLESTEP),
    "rescale_betas_zero_snr": ("DDPMScheduler", "DDIMScheduler", EULER, ANCESTRAL, DPM, UNIPC, LCM),
    "thresholding": ("DDPMScheduler", "DDIMScheduler", DEIS, DPM, SINGLESTEP, UNIPC, LCM),
    "set_alpha_to_one": ("DDIMScheduler", PNDM),
    "timestep_spacing": ("DDPMScheduler", "DDIMScheduler", *(SOLVERS.keys() - {SINGLESTEP})),
}


def own_fields(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a config that its scheduler has; null is the value for a missing one."""
    return {name: value for name, value in content.items() if value is not None and kind in OWNERS.get(name, (kind,))}


def solver_defaults(
    kind: str, content: Mapping[str, Any], schedule: NoiseSchedule, *, spacing: str, offset: int
) -> tuple[dict[str, Any], str | None]:
    """Returns the defaults of `ModelConfig`, and why they do not draw what the scheduler draws; None if they do.

    Args:
        kind: its class, a key of `SOLVERS`.
        content: its own fields.
        spacing, offset: `timestep_spacing` and `steps_offset`, with the values for missing ones.
    """
    solver = SOLVERS[kind]
    content = {**MISSING.get(kind, {}), **content}
    for name in ("use_flow_sigmas", "use_dynamic_shifting"):
        if content.get(name):
            raise ValueError(f"{name} is for flows, which {kind} is not")
    order = content.get("solver_order", 2) if len(solver.samplers) > 1 else 1
    if not isinstance(order, int) or not 1 <= order <= len(solver.samplers):
        raise ValueError(f"solver_order must be 1 to 3, not {order!r}")
    count = max(1, min(solver.steps, schedule.num_train_timesteps // 2))
    sampler, eta = solver.samplers[order - 1], solver.eta
    if kind == DPM and str(content.get("algorithm_type")).startswith("sde"):
        sampler, eta = WITH_NOISE.get(sampler, (sampler, eta))
    sigmas = np.append(schedule.sigmas[:-1], np.sqrt(1 / (schedule.alphas_cumprod[-1] or LEAST_ABAR) - 1))
    if kind == LCM:
        timesteps = _lcm_timesteps(content.get("original_inference_steps", 50), count, len(sigmas))
        levels = schedule.sigmas[timesteps.astype(int)]
    else:
        timesteps, levels = _levels(kind, content, sigmas, count, spacing=spacing, offset=offset)
    if sampler == "dpm2":
        timesteps, levels = _with_middles(sigmas, timesteps, levels)
    ends_low = content.get("final_sigmas_type") == "sigma_min" or not content.get("set_alpha_to_one", True)
    end = float(sigmas[0]) if ends_low else None
    if ends_low and kind == DEIS:  # which stays at the last sigma of a grid
        end = min(end or 0.0, float(levels[0]))
    listed = as_list(schedule, timesteps, levels, end)
    calls = SAMPLERS[sampler].calls(listed.count(",") + 1) - ends_at_noise(listed)
    defaults = {"sampler": sampler, "steps": calls, "spacing": listed, "eta": eta}
    if kind == LCM and timesteps[0] < LCM_LOWEST:
        return defaults, f"its c_skip is not 0 at timestep {timesteps[0]:g}"
    return defaults, _difference(kind, content, order, count, end is not None, spacing)


def _lcm_timesteps(known: int, count: int, total: int) -> FloatTable:
    """Returns the timesteps of an LCMScheduler, rising: some of the `known` ones of the distillation."""
    if not 1 <= known <= total:
        raise ValueError(f"original_inference_steps must lie between 1 and {total}, not {known!r}")
    left_out = np.linspace(0, known, min(count, known), endpoint=False, dtype=np.float64)
    return np.flip((known - np.floor(left_out)) * (total // known) - 1)


def _levels(
    kind: str, content: Mapping[str, Any], sigmas: FloatTable, count: int, *, spacing: str, offset: int
) -> tuple[FloatTable, FloatTable]:
    """Returns the timesteps and the sigmas of the levels, rising."""
    solver, every = SOLVERS[kind], np.arange(len(sigmas), dtype=np.float64)
    # "lambda_min_clipped" leaves out the timesteps above a noise level
    clipped = float(content.get("lambda_min_clipped", -np.inf))
    total = int((-np.log(sigmas) >= clipped).sum())
    timesteps = timesteps_of(spacing, count, total, offset=offset, above_first=solver.whole)
    if kind == PNDM:
        timesteps = timesteps.round()
    spaced = np.interp(timesteps, every, sigmas)
    ends = (sigmas if solver.whole else spaced)[[0, -1]]
    lowest, highest = (content.get(name) or float(end) for name, end in zip(LIMITS, ends, strict=True))
    grid = grid_of(content, lowest, highest, count)
    if grid is None:
        return timesteps, spaced
    timesteps = np.interp(np.log(grid), np.log(sigmas), every)
    cosine = content.get("beta_schedule") == "squaredcos_cap_v2" and kind == DPM
    if solver.rounds_karras and not cosine and (content.get("use_karras_sigmas") or content.get("use_lu_lambdas")):
        timesteps = timesteps.round()
    return (np.floor(timesteps) if solver.whole else timesteps), grid


def _with_middles(sigmas: FloatTable, timesteps: FloatTable, levels: FloatTable) -> tuple[FloatTable, FloatTable]:
    """Puts a level between each two, in the middle of their ln sigma."""
    middles = np.sqrt(levels[1:] * levels[:-1])
    between = np.interp(np.log(middles), np.log(sigmas), np.arange(len(sigmas), dtype=np.float64))
    places = np.arange(1, len(levels))
    return np.insert(timesteps, places, between), np.insert(levels, places, middles)


def _difference(
    kind: str, content: Mapping[str, Any], order: int, count: int, ends_low: bool, spacing: str
) -> str | None:
    """Returns how the sampler differs from the scheduler; None if it does not."""
    for name, value in SOLVERS[kind].fields.items():
        known = value, *ALIASES.get(str(value), ()), *(["sde-dpmsolver++"] if kind == DPM and order < 3 else [])
        if content.get(name, value) not in known:
            return f"its {name} {content[name]} is not known here"
    few = count < FEW and (ends_low or order == 3)
    match kind:
        case "DPMSolverSDEScheduler":
            return "its noise is that of one Brownian path"
        case "KDPM2AncestralDiscreteScheduler" if spacing == "linspace" or grid_of(content, 1.0, 2.0, 2) is not None:
            return "its second call in a step is at a timestep that is not the level's own"
        case "PNDMScheduler" if content.get("prediction_type") == "v_prediction":
            return "it extrapolates v"
        case "PNDMScheduler" if not steps_meet(spacing, count, content.get("num_train_timesteps", 1000)):
            return "its steps do not end where the next ones begin"
        case "DPMSolverSinglestepScheduler" if order == 3 or (ends_low and count % 2 == 0):
            return f"its steps are of order {order}, in other places"
        case "UniPCMultistepScheduler" if order != 2:
            return f"it is of order {order}"
        case "DPMSolverMultistepScheduler" if ends_low and content.get("euler_at_final"):
            return "its last step is of first order"
        case "DEISMultistepScheduler" | "DPMSolverMultistepScheduler" if few:
            return f"in fewer than {FEW} steps its last ones are of lower order"
    return None
