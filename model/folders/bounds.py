"""The bounds of the numbers in a config. They need no torch, because front ends read configs too.

A config may hold any number, and a network built from it could take all memory or an hour. So each number is compared
with its bound first. The bounds lie above every published model of this family, and below sizes that could do harm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from ..errors import CheckpointError
from ..plans.settings import MOST_STEPS, Settings
from ..shape import MAX_CHANNELS

MAX_CLASSES = 65_536
MAX_TEXT = 256  # characters of a name or a choice
MAX_SPACING = 1403  # characters of a list of a hundred timesteps
MAX_PLANS = 64
PLAN_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
SECTIONS = ("network", "schedule", "clip", "defaults", "classifier", "condition", "preconditioning", "weaker")
UNBOUNDED = ("format", "training")  # format is compared with one number; training is free JSON


@dataclass(frozen=True)
class Bound:
    """The numbers that a field may hold.

    Attributes:
        low, high: the smallest and the largest number allowed.
        most: the largest number of entries if the field may hold a list; 1 if it may not.
        whole: whether only whole numbers are allowed.
    """

    low: float
    high: float
    most: int = 1
    whole: bool = True

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        several = f", or at most {self.most} of them" if self.most > 1 else ""
        return f"{kind} between {self.low:g} and {self.high:g}{several}"

    def holds(self, value: Any) -> bool:
        """Returns whether a value is a number within the bound, or a list of such numbers where one is allowed."""
        if isinstance(value, list | tuple):
            return 1 < self.most >= len(value) and all(self._holds_one(entry) for entry in value)
        return self._holds_one(value)

    def _holds_one(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high  # false for NaN


def _real(low: float, high: float, most: int = 1) -> Bound:
    return Bound(low, high, most, whole=False)


def _bounds_of(kind: type) -> dict[str, Bound]:
    """Returns the bounds of those fields of a dataclass that are annotated with them."""
    bounds = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        ends = {type(end): end for end in FieldInfo.from_annotation(hint).metadata}
        if Ge in ends and Le in ends:
            bounds[name] = Bound(ends[Ge].ge, ends[Le].le, whole=get_args(hint)[0] is int)
    return bounds


BOUNDS: dict[str, Bound] = {
    "image_size": Bound(1, 1024, most=2),
    "parameters": Bound(0, 10**12),
    # fields of the networks
    "in_channels": Bound(1, MAX_CHANNELS),
    "out_channels": Bound(1, 2 * MAX_CHANNELS),
    "channels": Bound(1, 2048),
    "channel_mult": _real(1 / 16, 64, most=8),
    "num_res_blocks": Bound(1, 8),
    "attention_levels": Bound(0, 7, most=8),
    "head_channels": Bound(1, 4096),
    "heads": Bound(1, 4096),
    "freq_shift": Bound(0, 1),
    "timestep_scale": _real(0, 1000),
    "groups": Bound(1, 1024),
    "norm_eps": _real(0, 1),
    "dropout": _real(0, 1),
    "num_classes": Bound(1, MAX_CLASSES),
    "patch": Bound(1, 32),
    "pixel_head": Bound(0, 1024),
    "condition_channels": Bound(0, 3),
    "time_dim": Bound(2, 4096),
    "init_channels": Bound(1, 2048),
    "attention_heads": Bound(1, 4096, most=8),
    "attention_head_channels": Bound(1, 4096, most=8),
    "theta": _real(1, 1e9),
    "fourier_features": Bound(1, 4096),
    "noise_channels": Bound(2, 4096),
    "emb_channels": Bound(1, 16_384),
    # fields of the condition, the schedule and the clipping
    "num_train_timesteps": Bound(1, MOST_STEPS),
    "beta_start": _real(1e-7, 1),
    "beta_end": _real(1e-7, 1),
    "betas": _real(0, 1, most=10_000),
    "sigma_min": _real(1e-6, 1e6),
    "sigma_max": _real(1e-6, 1e6),
    "bound": _real(0, 1e30),
    "quantile": _real(0, 1),
    "sigma_data": _real(1e-3, 1e3),
    "size": Bound(1, 1024),
    "max_augmentation": _real(0, 1),
    "augmentation": _real(0, 1),
    **_bounds_of(Settings),
}

# The bounds of the same fields under diffusers' names.
DIFFUSERS_NETWORK: dict[str, Bound] = {
    "sample_size": Bound(1, 1024, most=2),
    "block_out_channels": Bound(1, 32_768, most=8),
    "layers_per_block": BOUNDS["num_res_blocks"],
    "attention_head_dim": BOUNDS["head_channels"],
    "norm_num_groups": BOUNDS["groups"],
    "num_class_embeds": BOUNDS["num_classes"],
    **{name: BOUNDS[name] for name in ("in_channels", "out_channels", "freq_shift", "norm_eps", "dropout")},
}
DIFFUSERS_SCHEDULER: dict[str, Bound] = {
    **{name: BOUNDS[name] for name in ("num_train_timesteps", "beta_start", "beta_end")},
    "clip_sample_range": BOUNDS["bound"],
    "sample_max_value": BOUNDS["bound"],
    "dynamic_thresholding_ratio": BOUNDS["quantile"],
}


def check_numbers(file: str, fields: Mapping[str, Any], bounds: Mapping[str, Bound], prefix: str = "") -> None:
    """Checks each of these fields that is present and not null against its bound.

    Args:
        file: name of the file, for the message.
        fields: the fields as JSON holds them.
        bounds: the bounds by the names of the fields.
        prefix: prefix of the names in the message, such as `network.`.

    Raises:
        CheckpointError: if a value is out of its bound; the message names the field and the bound.
    """
    for name, bound in bounds.items():
        value = fields.get(name)
        if value is not None and not bound.holds(value):
            raise CheckpointError(f"{file}: {prefix}{name} must be {bound}, got {_shown(value)}")


def check_config(content: Mapping[str, Any]) -> None:
    """Checks that every number of our config.json is within its bound, and that every text is short.

    A number in a field without a bound is refused as well, so that no field can be forgotten here.

    Raises:
        CheckpointError: if a value is out of its bound; the message names the field and the bound.
    """
    sections = {section: content[section] for section in SECTIONS if isinstance(content.get(section), Mapping)}
    sections |= _plans(content.get("plans"))
    top = {name: value for name, value in content.items() if name not in (*sections, *UNBOUNDED, "classes", "plans")}
    _check_section("", top, {**BOUNDS, "channels": BOUNDS["in_channels"]})
    for section, fields in sections.items():
        _check_section(f"{section}.", fields, BOUNDS)
    _check_classes(content.get("classes"))


def _check_section(prefix: str, fields: Mapping[str, Any], bounds: Mapping[str, Bound]) -> None:
    check_numbers("config.json", fields, bounds, prefix)
    for name, value in fields.items():
        most = MAX_SPACING if name == "spacing" else MAX_TEXT
        if name not in bounds and not (value is None or isinstance(value, bool) or _is_short(value, most)):
            raise CheckpointError(f"config.json: {prefix}{name} cannot hold {_shown(value)}")


def _plans(plans: Any) -> dict[str, Mapping[str, Any]]:
    """Returns the plans as sections."""
    if plans is None:
        return {}
    are_tables = isinstance(plans, Mapping) and all(isinstance(plan, Mapping) for plan in plans.values())
    if not are_tables or len(plans) > MAX_PLANS or not all(re.fullmatch(PLAN_NAME, name) for name in plans):
        raise CheckpointError(
            f"config.json: plans must be a table of at most {MAX_PLANS} tables, with names of up to 64 small letters, "
            "digits and . _ -"
        )
    return {f"plans.{name}": plan for name, plan in plans.items()}


def _check_classes(classes: Any) -> None:
    if classes is None:
        return
    if not isinstance(classes, list | tuple) or len(classes) > MAX_CLASSES or not all(map(_is_short, classes)):
        raise CheckpointError(
            f"config.json: classes must be a list of at most {MAX_CLASSES} names of at most {MAX_TEXT} characters"
        )


def _is_short(value: Any, most: int = MAX_TEXT) -> bool:
    return isinstance(value, str) and len(value) <= most


def _shown(value: Any) -> str:
    """Returns a value for a message, cut to about 60 characters before a long one is written out."""
    if isinstance(value, str | list | tuple):
        value = value[:16]
    text = "a number of many digits" if isinstance(value, int) and abs(value) > 10**30 else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
