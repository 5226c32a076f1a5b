"""Translates the config of a diffusers scheduler to ours and back (as of diffusers 0.42)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from difuso.model.errors import CheckpointError, refused
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.parsing import parse
from difuso.model.networks.network_config import Share
from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.schedule_config import Beta, Factor, ScheduleConfig
from difuso.model.plans.settings import MOST_STEPS
from difuso.model.plans.spacing import listed_timesteps, space_timesteps

from .in_sigma import EDM, FLOW, FLOWS, IPNDM, edm_from_diffusers, flow_from_diffusers, ipndm_from_diffusers
from .levels import as_list, steps_meet, timesteps_of
from .solvers import HEUN, LCM, MISSING, SOLVERS, own_fields, solver_defaults

# All of these, and those of SOLVERS, train on x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps with the same fields.
DDPM, DDIM = "DDPMScheduler", "DDIMScheduler"
SCHEDULERS = (DDPM, DDIM, *SOLVERS)
BETA_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SPACINGS = ("leading", "linspace", "trailing")
DIFFERENT = {"clip_sample": False, "timestep_spacing": "linspace"}  # for missing fields, but of DDPM and DDIM
NO_LIMIT = 1e30  # stands for infinity, which JSON cannot hold
Limit = Annotated[float, Field(ge=0, le=NO_LIMIT)]


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
    # `fixed_small_log` is the same one; diffusers has `fixed_large_log` and `learned` too, and computes both wrongly
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

    Fields of the network stand below `network`.

    Raises CheckpointError if we have no such scheduler; the message names the field at fault.
    """
    kind = content.get("_class_name")
    if kind in EDM:
        return edm_from_diffusers(content)
    if kind not in (*SCHEDULERS, *FLOWS, IPNDM):
        raise ValueError(f"{kind!r} is not supported; supported are {', '.join((*SCHEDULERS, *EDM, *FLOWS, IPNDM))}")
    if content.get("predict_epsilon") is False:
        raise ValueError("predict_epsilon is false, which diffusers ignores; write prediction_type sample instead")
    if content.get("timestep_type", "discrete") != "discrete":  # diffusers then calls the network with ln(sigma) / 4
        raise ValueError(f"timestep_type must be discrete, not {content['timestep_type']!r}")
    missing = {} if kind in (DDPM, DDIM) else {**DIFFERENT, **MISSING.get(kind, {})}
    given = own_fields(kind, content)
    names = [field.name for field in dataclasses.fields(Scheduler)]
    said = parse(Scheduler, {name: value for name, value in {**missing, **given}.items() if name in names})
    if kind in FLOWS:
        return flow_from_diffusers(content, total=said.num_train_timesteps, shift=said.shift)
    if kind == IPNDM:
        return ipndm_from_diffusers(given, total=said.num_train_timesteps)
    schedule = _schedule(said)
    if kind in SOLVERS:
        built = ScheduleConfig(**schedule).build()
        defaults, instead_of = solver_defaults(
            kind, given, built, spacing=said.timestep_spacing, offset=said.steps_offset
        )
    else:
        defaults, instead_of = _defaults(content, said)
    clips = said.clip_sample and content.get("clip_sample", True) is not None  # to diffusers null is false
    return {
        "schedule": schedule,
        "prediction": PREDICTIONS[said.prediction_type],
        "variance": said.variance_type.removesuffix("_log"),
        "clip": _clipping(said, clip_sample=kind in (DDPM, DDIM, HEUN, LCM) and clips, keep_eps=kind in (DDPM, DDIM)),
        "defaults": defaults,
        "instead_of": instead_of and f"{kind}: {instead_of}",
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
    if config.variance == "learned":
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
    spacing = defaults.spacing if listed_timesteps(defaults.spacing) is None else "trailing"
    if spacing not in SPACINGS:
        raise CheckpointError(f"diffusers has no equivalent of spacing {defaults.spacing}")
    noisy = SAMPLERS[defaults.sampler].always_noisy or (defaults.sampler == "dpmpp" and defaults.eta > 0)
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
        "timestep_spacing": spacing,
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


def _schedule(said: Scheduler) -> dict[str, Any]:
    common = {"num_train_timesteps": said.num_train_timesteps, "zero_terminal_snr": said.rescale_betas_zero_snr}
    if said.trained_betas is not None:
        return {"type": "listed", "betas": said.trained_betas, **common}
    kind = BETA_SCHEDULES[said.beta_schedule]
    ends = {"beta_start": said.beta_start, "beta_end": said.beta_end}
    return {"type": kind, **common, **({} if kind == "cosine" else ends)}


def _clipping(said: Scheduler, *, clip_sample: bool, keep_eps: bool) -> dict[str, Any]:
    # DDPM and DDIM of diffusers clip x0 and keep the predicted noise.
    if said.thresholding:
        limits = {"bound": said.sample_max_value, "quantile": said.dynamic_thresholding_ratio}
        return {"mode": "dynamic", **limits, "keep_eps": keep_eps}
    if clip_sample:
        return {"mode": "static", "bound": said.clip_sample_range, "keep_eps": keep_eps}
    return {"mode": "none", "keep_eps": True}


def _defaults(content: Mapping[str, Any], said: Scheduler) -> tuple[dict[str, Any], str | None]:
    """Returns the defaults of a DDPMScheduler or a DDIMScheduler, and why they do not draw what it draws."""
    kind, spacing, total = content["_class_name"], said.timestep_spacing, said.num_train_timesteps
    if said.rescale_betas_zero_snr and spacing == "leading":
        spacing = "trailing"  # begins at T-1, as every run must if nothing of the image is left there
    if kind == DDPM:
        if spacing == "leading" and said.steps_offset != 0:
            raise ValueError(f"steps_offset must be 0, not {said.steps_offset}")
        return {"sampler": "ddpm", "steps": total, "spacing": spacing}, None
    steps = min(50, total)
    if not steps_meet(spacing, steps, total):
        difference = "its steps do not end where the next ones begin"
        return {"sampler": "ddim", "steps": steps, "spacing": spacing}, difference
    timesteps = timesteps_of(spacing, steps, total, offset=said.steps_offset, above_first=False)
    if said.set_alpha_to_one and tuple(timesteps) == space_timesteps(spacing, steps, total):
        return {"sampler": "ddim", "steps": steps, "spacing": spacing}, None
    if not said.set_alpha_to_one and timesteps[0] == 0 and (said.clip_sample or said.thresholding):
        raise ValueError("set_alpha_to_one must not be false with steps_offset 0: the last step would only clip")
    schedule = ScheduleConfig(**_schedule(said)).build()
    end = None if said.set_alpha_to_one else float(schedule.sigmas[0])
    listed = as_list(schedule, timesteps, schedule.sigmas[timesteps.astype(int)], end)
    return {"sampler": "ddim", "steps": len(listed_timesteps(listed) or ()), "spacing": listed}, None
