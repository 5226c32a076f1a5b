"""The science of difuso: schedules, plans, samplers, networks and checkpoints. No queue, no HTTP, no environment."""

from __future__ import annotations

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .config import ModelConfig
from .errors import CheckpointError, ModelError, NonFiniteSample, PlanError
from .plan import Plan, make_plan
from .sampling import sample, sample_steps
from .schedule import NoiseSchedule

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ModelConfig",
    "ModelError",
    "NoiseSchedule",
    "NonFiniteSample",
    "Plan",
    "PlanError",
    "load_checkpoint",
    "make_plan",
    "sample",
    "sample_steps",
    "save_checkpoint",
]
