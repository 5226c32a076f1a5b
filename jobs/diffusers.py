"""A folder of diffusers as a front end sees it: its config files, and the header of its weights, in our words.

Only what a front end asks for. Whether the network and the scheduler can be had, workers find out: `model.formats` says
the same as these few lines, and more; a test compares them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
MAX_HEADER = 100_000_000  # bytes; the limit of safetensors itself

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


class Unusable(Exception):
    """The folder is no model that can be served; the message says why."""


def is_diffusers(folder: Path) -> bool:
    """Whether a folder holds a pipeline or a network of diffusers."""
    if (folder / INDEX).is_file() or (folder / "unet" / CONFIG).is_file():
        return True
    try:
        return "_class_name" in json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def find(folder: Path, part: str, name: str) -> str:
    """Path of a part's file: in a folder of its own, or beside the others."""
    return f"{part}/{name}" if (folder / part).is_dir() else name


def read_config(folder: Path) -> dict[str, Any]:
    """What our config.json would say.

    Raises:
        Unusable: if the folder cannot be served for a reason that is plain to see.
        OSError, ValueError: if a file cannot be read.
    """
    index = _read(folder, INDEX) if (folder / INDEX).is_file() else {}
    network = _read(folder, find(folder, "unet", CONFIG))
    scheduler = _read(folder, find(folder, "scheduler", SCHEDULER))
    if others := {name for name, part in index.items() if isinstance(part, list) and part[0]} - {"unet", "scheduler"}:
        raise Unusable(f"{INDEX} cannot be used: its pipeline has a {min(others)} besides unet and scheduler")
    if network.get("_class_name") != "UNet2DModel":
        raise Unusable(
            f"{CONFIG} cannot be used: it describes {network.get('_class_name')!r}; only UNet2DModel is known"
        )
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
        "parameters": _count_parameters(folder, find(folder, "unet", WEIGHTS)),
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
        raise Unusable(f"{SCHEDULER} cannot be used: {field} is {value!r}; known is only {' or '.join(words)}")
    return words[value]


def _count_parameters(folder: Path, name: str) -> int:
    """The numbers in a safetensors file, by its header: eight bytes of length, then JSON."""
    if not (folder / name).is_file():
        raise Unusable(f"{name} is missing; `difuso convert` turns pickled weights into safetensors")
    with (folder / name).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length)) if length <= MAX_HEADER else None
    if not isinstance(header, dict):
        raise Unusable(f"{name} is not a safetensors file")
    return sum(math.prod(tensor["shape"]) for tensor_name, tensor in header.items() if tensor_name != "__metadata__")


def _read(folder: Path, name: str) -> dict[str, Any]:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise Unusable(f"{name} is not a JSON object")
    return content
