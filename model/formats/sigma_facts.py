"""Facts about checkpoints of EDM, EDM2 and score_sde, under the names of their repositories."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ..errors import CheckpointError

Share = Annotated[float, Field(ge=0, le=1)]
Levels = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # the width of each, as a multiple of the base width


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
    """Facts about an NCSNpp of yang-song/score_sde_pytorch, under the names of its config files.

    Raises CheckpointError if centered or embedding_type does not belong to the sde.
    """

    image_size: PositiveInt  # height and width in pixels
    sde: Literal["vpsde", "vesde"]  # `vpsde` or `vesde` (`training.sde`)
    nf: PositiveInt  # the base width
    ch_mult: Levels  # width of each level, as a multiple of nf
    num_res_blocks: PositiveInt  # residual blocks of each level
    attn_resolutions: tuple[int, ...]  # heights with self-attention
    continuous: bool  # whether it was trained on continuous times (`training.continuous`)
    embedding_type: Literal["positional", "fourier"]  # `positional` or `fourier`
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
    # whether images lie in -1..1 (`data.centered`), as with `vpsde`, or in 0..1, as with `vesde`; if it is given, it
    # must be so
    centered: bool | None = None
    dropout: Share = 0.1  # dropout of training, 0..1

    def __post_init__(self) -> None:
        if self.centered not in (None, self.sde == "vpsde"):
            raise CheckpointError(
                f"the facts give centered {self.centered} with {self.sde}; it is true with vpsde and false with vesde"
            )
        if (self.embedding_type == "fourier") is not (self.sde == "vesde"):
            raise CheckpointError(
                f"the facts give embedding_type {self.embedding_type} with {self.sde}; it is fourier with vesde, and "
                "positional with vpsde"
            )
