"""Translates the config of a diffusers scheduler to ours and back (as of diffusers 0.42)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from difuso.model.errors import CheckpointError, refused
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.parsing import parse
from difuso.model.networks.network_config import Share
from difuso.model.plans.schedule_config import Beta, Factor
from difuso.model.plans.settings import MOST_STEPS

# All of these train on x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps with the same fields. We have the samplers of the
# first two, and of the next two with the fields of MULTISTEP; models with any other scheduler are sampled by DDIM.
DDPM, DDIM, DPM, UNIPC = "DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
SCHEDULERS = (
    *(DDPM, DDIM, DPM, UNIPC, "DEISMultistepScheduler", "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler"),
    *("EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler"),
)
# Of flow matching, with a UNet2DModel that predicts the velocity. Its other fields must have the values of FLOW_FIELDS.
FLOW, FLOW_STEPS = "FlowMatchEulerDiscreteScheduler", 28
FLOW_FIELDS: dict[str, Any] = {
    "use_dynamic_shifting": False,
    "invert_sigmas": False,
    "shift_terminal": None,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "stochastic_sampling": False,
}
BETA_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SPACINGS = ("leading", "linspace", "trailing")
NO_LIMIT = 1e30  # stands for infinity, which JSON cannot hold
Limit = Annotated[float, Field(ge=0, le=NO_LIMIT)]
VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",  # the same variance, computed as a logarithm
    "fixed_large": "fixed_large",
    "learned_range": "learned_range",
}

ON_TIMESTEPS: dict[str, Any] = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "final_sigmas_type": "zero",
}
MIDPOINT: dict[str, Any] = {"solver_type": "midpoint", **ON_TIMESTEPS}

# Our samplers, with their eta, that are a scheduler of diffusers with these fields. For sde-dpmsolver++ ours
# has another weight of the slope.
MULTISTEP: tuple[tuple[str, float, str, dict[str, Any]], ...] = (
    ("dpmpp", 0.0, DPM, {"algorithm_type": "dpmsolver++", "solver_order": 2, **MIDPOINT}),
    ("dpmpp", 1.0, DPM, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, **MIDPOINT}),
    ("dpmpp_3m", 0.0, DPM, {"algorithm_type": "dpmsolver++", "solver_order": 3, **MIDPOINT}),
    (
        "unipc",
        0.0,
        UNIPC,
        {
            "solver_order": 2,
            "solver_type": "bh2",
            "predict_x0": True,
            "disable_corrector": [],
            "solver_p": None,
            "lower_order_final": True,
            **ON_TIMESTEPS,
        },
    ),
)


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """The fields of a scheduler_config.json that count here, with the values that schedulers use for missing ones."""

    num_train_timesteps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    beta_start: Beta = 0.0001
    beta_end: Beta = 0.02
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    shift: Factor = 1.0
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    # diffusers has `fixed_large_log` and `learned` too, and computes both wrongly
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "learned_range"] = "fixed_small"
    timestep_spacing: Literal["leading", "linspace", "trailing"] = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    clip_sample: bool = True
    clip_sample_range: Limit = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: Share = 0.995
    sample_max_value: Limit = 1.0


@refused("scheduler_config.json cannot be used")
def scheduler_from_diffusers(content: Mapping[str, Any]) -> dict[str, Any]:
    """Translates a scheduler_config.json to schedule, prediction, variance, clip and defaults of `ModelConfig`.

    Raises CheckpointError if we have no such scheduler; the message names the field at fault.
    """
    kind = content.get("_class_name")
    if kind not in (*SCHEDULERS, FLOW):
        raise ValueError(f"{kind!r} is not supported; supported are {', '.join((*SCHEDULERS, FLOW))}")
    if content.get("predict_epsilon") is False:
        raise ValueError("predict_epsilon is false, which diffusers ignores; write prediction_type sample instead")
    if content.get("timestep_type", "discrete") != "discrete":  # diffusers then calls the network with ln(sigma) / 4
        raise ValueError(f"timestep_type must be discrete, not {content['timestep_type']!r}")
    names = [field.name for field in dataclasses.fields(Scheduler) if content.get(field.name) is not None]
    said = parse(Scheduler, {name: content[name] for name in names})
    if kind == FLOW:
        return _flow_from_diffusers(content, said)
    defaults = _defaults(content, said)
    clips = said.clip_sample and content.get("clip_sample", True) is not None  # to diffusers null is false
    return {
        "schedule": _schedule(said),
        "prediction": PREDICTIONS[said.prediction_type],
        "variance": VARIANCES[said.variance_type],
        # Of these schedulers of diffusers those of MULTISTEP have no clip_sample.
        "clip": _clipping(said, clip_sample=defaults["sampler"] in ("ddpm", "ddim") and clips),
        "defaults": defaults,
    }


def scheduler_to_diffusers(config: ModelConfig) -> dict[str, Any]:
    """Returns the scheduler_config.json of a DDPMScheduler for a model that draws noise, else that of a DDIMScheduler.
    Of a flow it is that of a FlowMatchEulerDiscreteScheduler.

    diffusers' pipelines for images without classes have these two of our samplers; the others are their solvers of
    higher order. The config lacks the arguments that diffusers takes per call: the number of steps, the eta of DDIM,
    and `use_clipped_model_output`, which is the negation of our `keep_eps`.

    Raises CheckpointError if diffusers cannot use the model; the message names the field at fault.
    """
    defaults, schedule, clip = config.defaults, config.schedule, config.clip
    if config.variance not in VARIANCES:
        raise CheckpointError(f"diffusers has no equivalent of variance {config.variance}")
    if config.network.out_channels != config.channels and config.variance != "learned_range":
        raise CheckpointError(f"diffusers has no equivalent of variance {config.variance} with a learned variance")
    if schedule.type == "flow" and config.prediction == "flow" and schedule.noise_scale in (None, 1):
        shift = 1.0 if schedule.shift is None else schedule.shift
        if shift < 1:
            raise CheckpointError(f"diffusers has no equivalent of shift {shift}: it must be at least 1")
        if clip.mode != "none":
            raise CheckpointError(f"diffusers has no equivalent of clip {clip.mode} with a flow")
        return {"_class_name": FLOW, "num_train_timesteps": schedule.num_train_timesteps, "shift": shift}
    if "flow" in (schedule.type, config.prediction):
        raise CheckpointError(
            f"diffusers has no equivalent of prediction {config.prediction} with a schedule of the type {schedule.type}"
        )
    if defaults.spacing not in SPACINGS:
        raise CheckpointError(f"diffusers has no equivalent of spacing {defaults.spacing}")
    noisy = defaults.sampler == "ddpm" or (defaults.sampler == "dpmpp" and defaults.eta > 0)
    ancestral = noisy or config.variance != "fixed_small"
    content = {
        "_class_name": DDPM if ancestral else DDIM,
        "num_train_timesteps": schedule.num_train_timesteps,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTIONS.items()}[config.prediction],
        "clip_sample": clip.mode == "static",
        "clip_sample_range": 1.0 if clip.bound is None else clip.bound,
        "thresholding": clip.mode == "dynamic",
        "dynamic_thresholding_ratio": clip.quantile,
        "sample_max_value": NO_LIMIT if clip.bound is None else clip.bound,
        "timestep_spacing": defaults.spacing,
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
        **({"variance_type": config.variance} if ancestral else {}),
    }
    betas = dataclasses.replace(schedule, zero_terminal_snr=False).build().betas
    theirs = {ours: theirs for theirs, ours in BETA_SCHEDULES.items()}
    if schedule.type not in theirs:
        return {**content, "trained_betas": tuple(betas.tolist())}
    content["beta_schedule"] = theirs[schedule.type]
    if schedule.type != "cosine":
        content |= {"beta_start": float(betas[0]), "beta_end": float(betas[-1])}
    return content


def _flow_from_diffusers(content: Mapping[str, Any], said: Scheduler) -> dict[str, Any]:
    """Returns what `scheduler_from_diffusers` does, with the timesteps that the scheduler visits by default."""
    for name, value in FLOW_FIELDS.items():
        if content.get(name, value) != value:
            raise ValueError(f"{name} must be {value}, not {content[name]!r}")
    total, shift = said.num_train_timesteps, said.shift
    if shift < 1:
        raise ValueError(f"shift must be at least 1, not {shift}")
    last = shift / (1 + (shift - 1) / total) - 1
    timesteps = np.linspace(last, total - 1, min(FLOW_STEPS, total))
    spacing = "at:" + ",".join(f"{t:.6f}" for t in timesteps)
    return {
        "schedule": {"type": "flow", "num_train_timesteps": total, "shift": shift},
        "prediction": "flow",
        "variance": "fixed_small",
        "clip": {"mode": "none"},
        "defaults": {"sampler": "euler", "steps": len(timesteps), "spacing": spacing},
    }


def _schedule(said: Scheduler) -> dict[str, Any]:
    common = {"num_train_timesteps": said.num_train_timesteps, "zero_terminal_snr": said.rescale_betas_zero_snr}
    if said.trained_betas is not None:
        return {"type": "listed", "betas": said.trained_betas, **common}
    kind = BETA_SCHEDULES[said.beta_schedule]
    ends = {"beta_start": said.beta_start, "beta_end": said.beta_end}
    return {"type": kind, **common, **({} if kind == "cosine" else ends)}


def _clipping(said: Scheduler, *, clip_sample: bool) -> dict[str, Any]:
    # diffusers clips x0 and keeps the predicted noise.
    if said.thresholding:
        limits = {"bound": said.sample_max_value, "quantile": said.dynamic_thresholding_ratio}
        return {"mode": "dynamic", **limits, "keep_eps": True}
    if clip_sample:
        return {"mode": "static", "bound": said.clip_sample_range, "keep_eps": True}
    return {"mode": "none", "keep_eps": True}


def _defaults(content: Mapping[str, Any], said: Scheduler) -> dict[str, Any]:
    kind, spacing, total = content["_class_name"], said.timestep_spacing, said.num_train_timesteps
    if kind in (DDPM, DDIM) and spacing == "leading" and said.steps_offset != 0:
        raise ValueError(f"steps_offset must be 0, not {said.steps_offset}")
    if kind == DDIM and not said.set_alpha_to_one:
        raise ValueError("set_alpha_to_one must not be false: the last step would leave noise in the image")
    for sampler, eta, name, fields in MULTISTEP:
        if kind == name and all(content.get(field, value) == value for field, value in fields.items()):
            # diffusers' multistep schedulers never visit timestep 0, where a step of higher order overshoots. Of our
            # spacings only trailing leaves it out.
            return {"sampler": sampler, "steps": min(25, total), "spacing": "trailing", "eta": eta}
    if said.rescale_betas_zero_snr and spacing == "leading":
        spacing = "trailing"  # begins at T-1, as every run must if nothing of the image is left there
    if kind == DDPM:
        return {"sampler": "ddpm", "steps": total, "spacing": spacing}
    return {"sampler": "ddim", "steps": min(50, total), "spacing": spacing}
