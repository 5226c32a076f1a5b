"""A folder of diffusers as a front end sees it: its config files, and the header of its weights, in our words.

Only what a front end asks for. Whether the network and the scheduler can be had, workers find out: `model.formats` says
the same as these few lines, and more; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.bounds import DIFFUSERS_NETWORK, DIFFUSERS_SCHEDULER, check_numbers
from model.errors import CheckpointError
from model.files import read_json, read_shapes

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

BETA_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "learned_range": "learned_range",
}
DPMPP_2M: dict[str, Any] = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "final_sigmas_type": "zero",
}


def is_diffusers(folder: Path) -> bool:
    """Whether a folder holds a pipeline or a network of diffusers."""
    if (folder / INDEX).is_file() or (folder / "unet" / CONFIG).is_file():
        return True
    try:
        return "_class_name" in read_json(folder, CONFIG)
    except CheckpointError:
        return False


def find(folder: Path, part: str, name: str) -> str:
    """Path of a part's file: in a folder of its own, or beside the others."""
    return f"{part}/{name}" if (folder / part).is_dir() else name


def read_config(folder: Path) -> dict[str, Any]:
    """What our config.json would say.

    Raises:
        CheckpointError: if a file cannot be read, or the folder cannot be served for a reason that is plain to see.
    """
    index = read_json(folder, INDEX) if (folder / INDEX).is_file() else {}
    network = read_json(folder, find(folder, "unet", CONFIG))
    scheduler = read_json(folder, find(folder, "scheduler", SCHEDULER))
    check_numbers(CONFIG, network, DIFFUSERS_NETWORK)
    check_numbers(SCHEDULER, scheduler, DIFFUSERS_SCHEDULER)
    if others := {name for name, part in index.items() if isinstance(part, list) and part[0]} - {"unet", "scheduler"}:
        raise CheckpointError(f"{INDEX} cannot be used: its pipeline has a {min(others)} besides unet and scheduler")
    if network.get("_class_name") != "UNet2DModel":
        raise CheckpointError(
            f"{CONFIG} cannot be used: it describes {network.get('_class_name')!r}; only UNet2DModel is known"
        )
    weights = find(folder, "unet", WEIGHTS)
    if not (folder / weights).is_file():
        raise CheckpointError(f"{weights} is missing; `difuso convert` turns pickled weights into safetensors")
    size, classes, defaults = network.get("sample_size"), network.get("num_class_embeds"), _defaults(scheduler)
    return {
        "image_size": size[0] if isinstance(size, list) else size,
        "channels": network.get("in_channels", 3),
        "network": {"null_class": classes is None},
        "classes": None if classes is None else [str(i) for i in range(classes)],
        "schedule": {
            "type": _translate(scheduler, "beta_schedule", BETA_SCHEDULES),
            "beta_start": scheduler.get("beta_start", 1e-4),
            "beta_end": scheduler.get("beta_end", 0.02),
            "num_train_timesteps": scheduler.get("num_train_timesteps", 1000),
            "zero_terminal_snr": scheduler.get("rescale_betas_zero_snr", False),
        },
        "prediction": _translate(scheduler, "prediction_type", PREDICTIONS),
        "variance": _translate(scheduler, "variance_type", VARIANCES),
        "clip": {"mode": _clip_mode(scheduler, defaults["sampler"])},
        "defaults": defaults,
        "parameters": sum(map(math.prod, read_shapes(folder, weights).values())),
    }


def _defaults(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    kind, total = scheduler.get("_class_name"), scheduler.get("num_train_timesteps", 1000)
    if kind == "DPMSolverMultistepScheduler" and all(scheduler.get(k, value) == value for k, value in DPMPP_2M.items()):
        return {"sampler": "dpmpp", "steps": min(25, total), "spacing": "trailing"}
    spacing = scheduler.get("timestep_spacing") or "leading"
    if scheduler.get("rescale_betas_zero_snr") and spacing == "leading":
        spacing = "trailing"
    if kind == "DDPMScheduler":
        return {"sampler": "ddpm", "steps": total, "spacing": spacing}
    return {"sampler": "ddim", "steps": min(50, total), "spacing": spacing}


def _clip_mode(scheduler: Mapping[str, Any], sampler: str) -> str:
    if scheduler.get("thresholding"):
        return "dynamic"
    return "static" if sampler != "dpmpp" and scheduler.get("clip_sample", True) else "none"


def _translate(scheduler: Mapping[str, Any], field: str, words: Mapping[str, str]) -> str:
    value = scheduler.get(field) or next(iter(words))
    if value not in words:
        raise CheckpointError(f"{SCHEDULER} cannot be used: {field} is {value!r}; known is only {' or '.join(words)}")
    return words[value]
