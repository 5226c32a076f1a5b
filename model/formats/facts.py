"""What a foreign checkpoint's weights do not say; each layout has its own facts, under the names of its repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from ..config import ScheduleConfig
from ..errors import CheckpointError

Schedule = Literal["linear", "cosine"]


@dataclass(frozen=True)
class GuidedFacts:
    """Of a UNetModel of improved-diffusion or guided-diffusion.

    Attributes:
        image_size: height and width in pixels.
        use_new_attention_order: whether qkv is [3, heads, C] rather than [heads, 3, C]. The shapes are the same, and
            the wrong value gives noise for pictures.
        noise_schedule: of training.
        diffusion_steps: T.
        rescale_timesteps: whether the network is told t * 1000 / T; by default yes in improved-diffusion and no in
            guided-diffusion.
        num_heads: attention heads at every width; give this or
        num_head_channels: channels per attention head.
        predict_xstart: whether the network predicts x0 instead of noise.
        sigma_small: whether a network without learned variance samples with the posterior variance.
        dropout: of training, 0..1.
        num_channels, num_res_blocks, attention_resolutions, learn_sigma, class_cond, use_scale_shift_norm and
            resblock_updown: can be seen in the weights; if they are given, they must agree.
        classes: names of the classes; their numbers if there are none.

    Raises:
        CheckpointError: if both or none of num_heads and num_head_channels are given, or a number is out of range.
    """

    image_size: int
    use_new_attention_order: bool
    noise_schedule: Schedule
    diffusion_steps: int
    rescale_timesteps: bool
    num_heads: int | None = None
    num_head_channels: int | None = None
    predict_xstart: bool = False
    sigma_small: bool = False
    dropout: float = 0.0
    num_channels: int | None = None
    num_res_blocks: int | None = None
    attention_resolutions: str | None = None
    learn_sigma: bool | None = None
    class_cond: bool | None = None
    use_scale_shift_norm: bool | None = None
    resblock_updown: bool | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.num_heads is None) == (self.num_head_channels is None):
            raise CheckpointError("the facts must give either num_heads or num_head_channels")
        _check_positive(self, "image_size", "diffusion_steps", "num_heads", "num_head_channels")
        if not re.fullmatch(r"\d+(,\d+)*", self.attention_resolutions or "1"):
            raise CheckpointError("the facts give no attention_resolutions such as 32,16,8")
        if not 0 <= self.dropout <= 1:
            raise CheckpointError(f"the facts give dropout {self.dropout}; it must lie between 0 and 1")


@dataclass(frozen=True)
class ClassifierFacts:
    """Of a noisy classifier of guided-diffusion, whose scripts fix what has a default here.

    Attributes:
        image_size: height and width in pixels.
        noise_schedule: of training; the model that it guides must have the same.
        diffusion_steps: T; the same as that of the model that it guides.
        num_head_channels: channels per attention head.
        use_new_attention_order: as in `GuidedFacts`.

    Raises:
        CheckpointError: if a number is not positive.
    """

    image_size: int
    noise_schedule: Schedule
    diffusion_steps: int
    num_head_channels: int = 64
    use_new_attention_order: bool = False

    def __post_init__(self) -> None:
        _check_positive(self, "image_size", "diffusion_steps", "num_head_channels")


@dataclass(frozen=True)
class HoFacts:
    """Of a network in the layout of Ho et al. (pesser, ermongroup/ddim, DDRM, SDEdit).

    Attributes:
        image_size: height and width in pixels.
        variance: of ancestral sampling; `fixed_large` for CIFAR-10 and the DDIM authors' CelebA, else `fixed_small`.
        diffusion_steps: T.
        beta_start: first beta of the linear schedule.
        beta_end: last beta.

    Raises:
        CheckpointError: if a number is not positive.
    """

    image_size: int
    variance: Literal["fixed_small", "fixed_large"]
    diffusion_steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        _check_positive(self, "image_size", "diffusion_steps", "beta_start", "beta_end")


@dataclass(frozen=True)
class DomeFacts:
    """Of a network of dome272/Diffusion-Models-pytorch; its defaults need no sidecar.

    Attributes:
        image_size: height and width in pixels; the repository hard-codes 64.
        classes: names of the classes; their numbers if there are none.

    Raises:
        CheckpointError: if a number is not positive.
    """

    image_size: int = 64
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_positive(self, "image_size")


Facts = GuidedFacts | ClassifierFacts | HoFacts | DomeFacts


def schedule_of(facts: GuidedFacts | ClassifierFacts) -> ScheduleConfig:
    """The named schedules of both repositories, which scale the linear one by 1000 / T (`get_named_beta_schedule`)."""
    if facts.noise_schedule == "cosine":
        return ScheduleConfig("cosine", facts.diffusion_steps)
    scale = 1000 / facts.diffusion_steps
    return ScheduleConfig("linear", facts.diffusion_steps, beta_start=scale * 1e-4, beta_end=scale * 0.02)


def class_names(number: int | None, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Names for the classes of a network.

    Raises:
        CheckpointError: if there are more or fewer names than classes.
    """
    if given is not None and len(given) != (number or 0):
        raise CheckpointError(f"the facts name {len(given)} classes, the weights have {number or 0}")
    return given if number is None or given is not None else tuple(map(str, range(number)))


def _check_positive(facts: Any, *names: str) -> None:
    for name in names:
        value = getattr(facts, name)
        if value is not None and value <= 0:
            raise CheckpointError(f"the facts give {name} {value}; it must be positive")
