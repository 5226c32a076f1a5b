"""Facts about a foreign checkpoint that its weights do not show, by layout, under the names of its repository.

`released.toml` has those of published checkpoints.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ..errors import CheckpointError
from ..folders.config import ScheduleConfig
from ..folders.parsing import parse
from ..networks.network_config import Share

Schedule = Literal["linear", "cosine"]
Levels = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # the width of each, as a multiple of the base width


@dataclass(frozen=True)
class GuidedFacts:
    """Facts about a UNetModel of improved- or guided-diffusion; raises CheckpointError for two numbers of heads or
    none.
    """

    image_size: PositiveInt  # height and width in pixels
    # whether qkv is [3, heads, C] rather than [heads, 3, C]. The shapes are the same, but with the wrong value the
    # images are noise.
    use_new_attention_order: bool
    noise_schedule: Schedule  # name of the schedule of training
    diffusion_steps: PositiveInt  # number of timesteps T
    # whether the network gets t * 1000 / T; by default yes in improved-diffusion and no in guided-diffusion
    rescale_timesteps: bool
    num_heads: PositiveInt | None = None  # number of attention heads at every width, unless num_head_channels is given
    num_head_channels: PositiveInt | None = None  # channels per attention head, unless num_heads is given
    predict_xstart: bool = False  # whether the network predicts x0 instead of noise
    sigma_small: bool = False  # whether a network without learned variance samples with the posterior variance
    dropout: Share = 0.0  # dropout of training, 0..1
    classes: tuple[str, ...] | None = None  # names of the classes; None for their numbers

    def __post_init__(self) -> None:
        if (self.num_heads is None) == (self.num_head_channels is None):
            raise CheckpointError("the facts must give either num_heads or num_head_channels, not both or none")


@dataclass(frozen=True)
class ClassifierFacts:
    """Facts about a noisy classifier of guided-diffusion; the defaults are fixed in its scripts."""

    image_size: PositiveInt  # height and width in pixels
    noise_schedule: Schedule  # name of the schedule of training; the guided model must have the same
    diffusion_steps: PositiveInt  # number of timesteps T; the guided model must have the same
    num_head_channels: PositiveInt = 64  # channels per attention head
    use_new_attention_order: bool = False  # as in `GuidedFacts`


@dataclass(frozen=True)
class HoFacts:
    """Facts about a network in the layout of Ho et al. (pesser, ermongroup/ddim, DDRM, SDEdit)."""

    image_size: PositiveInt  # height and width in pixels
    # variance of ancestral sampling; `fixed_large` for CIFAR-10 and the DDIM authors' CelebA, else `fixed_small`
    variance: Literal["fixed_small", "fixed_large"]
    diffusion_steps: PositiveInt = 1000  # number of timesteps T
    # beta_start, beta_end: first and last beta of the linear schedule
    beta_start: PositiveFloat = 1e-4
    beta_end: PositiveFloat = 0.02


@dataclass(frozen=True)
class JiTFacts:
    """Facts about a network of LTH14/JiT, under the names of its command line and class."""

    # standard deviation of the noise that it was trained with; 1 for images of 256 pixels, 2 for 512
    noise_scale: PositiveFloat
    # the block before which the tokens of the class come in; None for a third of the blocks, as in all that were
    # released
    in_context_start: int | None = None
    proj_dropout: Share = 0.0  # dropout of training, 0..1
    classes: tuple[str, ...] | None = None  # names of the classes; None for their numbers


@dataclass(frozen=True)
class EDMFacts:
    """Facts about a network of NVlabs/edm or NVlabs/edm2, as `difuso.export_edm` writes them.

    Attributes:
        precond: class of the whole network: `EDMPrecond`, `VPPrecond`, `VEPrecond` or `iDDPMPrecond` of EDM, or
            `Precond` of EDM2.
        model: class of the network inside: `SongUNet` or `DhariwalUNet` of EDM, or `UNet` of EDM2.
        encoder: class of the encoder of images that EDM2 saves with its network; None in EDM.
        classes: names of the classes; None for their numbers.
        img_resolution, ...: the arguments of both classes, by their names there; None for those that they lack.
    """

    precond: Literal["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond", "Precond"]
    model: Literal["SongUNet", "DhariwalUNet", "UNet"]
    img_resolution: PositiveInt
    img_channels: PositiveInt
    label_dim: int
    model_channels: PositiveInt
    channel_mult: Levels
    num_blocks: PositiveInt
    attn_resolutions: tuple[int, ...]
    encoder: str | None = None
    classes: tuple[str, ...] | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    dropout: float = 0.0
    label_dropout: float = 0.0
    channel_mult_noise: int | None = None
    channel_mult_emb: int | None = None
    use_fp16: bool = False
    # of the preconditioning
    sigma_min: float | None = None
    sigma_max: float | None = None
    sigma_data: PositiveFloat = 0.5
    beta_d: float = 19.9
    beta_min: float = 0.1
    M: PositiveInt = 1000
    epsilon_t: float = 1e-5
    C_1: float = 0.001
    C_2: float = 0.008
    # of SongUNet
    augment_dim: int = 0
    embedding_type: Literal["positional", "fourier"] = "positional"
    encoder_type: Literal["standard", "skip", "residual"] = "standard"
    decoder_type: Literal["standard", "skip"] = "standard"
    resample_filter: tuple[int, ...] = (1, 1)
    # of EDM2
    logvar_channels: int = 128
    label_balance: float = 0.5
    concat_balance: float = 0.5
    res_balance: float = 0.3
    attn_balance: float = 0.3
    clip_act: float | None = 256
    channels_per_head: int = 64


@dataclass(frozen=True)
class ScoreSDEFacts:
    """Facts about an NCSNpp of yang-song/score_sde_pytorch, under the names of its config files."""

    image_size: PositiveInt  # height and width in pixels
    sde: Literal["vpsde", "vesde"]  # `vpsde` or `vesde` (`training.sde`)
    nf: PositiveInt  # the base width
    ch_mult: Levels  # width of each level, as a multiple of nf
    num_res_blocks: PositiveInt  # residual blocks of each level
    attn_resolutions: tuple[int, ...]  # heights with self-attention
    continuous: bool  # whether it was trained on continuous times (`training.continuous`)
    fir: bool  # whether halving and doubling smooth with [1, 3, 3, 1]
    progressive: Literal["none", "output_skip"]  # `none` or `output_skip`
    progressive_input: Literal["none", "input_skip", "residual"]  # `none`, `input_skip` or `residual`
    # beta_min, beta_max: beta(0) and beta(1) of `vpsde`
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0
    # sigma_min, sigma_max: first and last sigma of `vesde`, whose images lie in 0..1 there
    sigma_min: PositiveFloat = 0.01
    sigma_max: float = 50.0
    num_scales: PositiveInt = 1000  # number of timesteps
    dropout: Share = 0.1  # dropout of training, 0..1


Facts = GuidedFacts | ClassifierFacts | HoFacts | EDMFacts | ScoreSDEFacts | JiTFacts


def schedule_of(name: Schedule, timesteps: int) -> ScheduleConfig:
    """Returns a schedule of `get_named_beta_schedule`, which scales the betas of the linear one by 1000 / T."""
    if name == "cosine":
        return ScheduleConfig("cosine", timesteps)
    scale = 1000 / timesteps
    return ScheduleConfig("linear", timesteps, beta_start=scale * 1e-4, beta_end=scale * 0.02)


def class_names(number: int | None, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Returns the given names, or the numbers, of classes; raises CheckpointError if there are more or fewer names."""
    if given is not None and len(given) != (number or 0):
        raise CheckpointError(f"the facts name {len(given)} classes, but the weights have {number or 0}")
    return given if number is None or given is not None else tuple(map(str, range(number)))


LAYOUTS: dict[str, Any] = {
    "guided": GuidedFacts,
    "guided_classifier": ClassifierFacts,
    "ho": HoFacts,
    "score_sde": ScoreSDEFacts,
    "jit": JiTFacts,
}


def _read() -> dict[str, Facts]:
    released: dict[str, Facts] = {}
    text = files(__package__).joinpath("released.toml").read_text("utf-8")
    for layout, tables in tomllib.loads(text).items():
        for name, table in tables.items():
            tables[name] = {**(tables[table.pop("like")] if "like" in table else {}), **table}
            released[name] = parse(LAYOUTS[layout], tables[name])
    return released


RELEASED = _read()
