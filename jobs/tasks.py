"""What a job does with the pictures that were sent along: one frozen value for each endpoint."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .values import Frozen

MAX_IMAGES = 64
MAX_SIDE = 1_000_000  # more than any picture has pixels on one side that is read
MAX_DEPTH = 1_000_000  # more than any model has timesteps
MAX_SIGMA = 25_500.0  # a hundred times the range of a picture


class Generation(Frozen):
    """Pictures from noise."""

    kind: Literal["generate"] = "generate"


class Interpolation(Frozen):
    """Pictures between two that were sent (Ho et al. 2020, section 4.4).

    Attributes:
        shares: of the second picture in each answer, 0..1; one picture for each.
        depth: timestep to which both are noised, or inverted.
        mode: `ddpm` noises both, mixes, and runs the reverse chain; `ddim` inverts both, goes along the arc between
            them, and decodes.
        noise: of `ddpm`: `shared` by both; `independent`, whose mixture has too little; `rescaled`, independent with
            its variance put right.
    """

    kind: Literal["interpolate"] = "interpolate"
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(min_length=1, max_length=MAX_IMAGES)
    depth: int = Field(ge=0, le=MAX_DEPTH)
    mode: Literal["ddpm", "ddim"] = "ddpm"
    noise: Literal["shared", "independent", "rescaled"] = "shared"


class Denoising(Frozen):
    """The picture that was sent without its noise, or drawn anew.

    Attributes:
        sigma: of the noise in it, in grey levels of 0..255; None if it is clean and drawn anew (Meng et al. 2022).
        estimated: whether sigma was measured in the picture rather than given.
        depth: timestep at which it enters the reverse process.
        mode: `sample` runs the reverse chain; `mmse` takes the network's guess at once, smooth and closest on average.
        average: answer with the mean of the n samples, which comes closer to `mmse` the more there are.
    """

    kind: Literal["denoise"] = "denoise"
    sigma: float | None = Field(default=None, ge=0, le=MAX_SIGMA)
    estimated: bool = False
    depth: int = Field(ge=0, le=MAX_DEPTH)
    mode: Literal["sample", "mmse"] = "sample"
    average: bool = False


class Restoring(Frozen):
    """The picture that was sent, undone of a degradation (Kawar et al. 2022).

    Attributes:
        task: `inpaint` fills what the mask marks, `superres` adds pixels, `colorize` adds colour, `deblur` sharpens.
        factor: of `superres`.
        blur: of `deblur`: its kernel.
        width: of the blur in pixels of the model: a Gaussian's standard deviation, or the side of a uniform square.
        sigma: of the noise in the picture besides, in grey levels of 0..255.
    """

    kind: Literal["restore"] = "restore"
    task: Literal["inpaint", "superres", "colorize", "deblur"]
    factor: Literal[2, 4] = 2
    blur: Literal["gaussian", "uniform"] = "gaussian"
    width: float = Field(default=2.0, gt=0, le=32)
    sigma: float = Field(default=0.0, ge=0, le=255)


Task = Annotated[Generation | Interpolation | Denoising | Restoring, Field(discriminator="kind")]


class Picture(Frozen):
    """A picture that was sent along, as it lies in the result store: fitted to the model.

    Attributes:
        sha256: of its PNG, whose name in the store it is.
        width, height: that it had when it was sent, in pixels.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    width: int = Field(ge=1, le=MAX_SIDE)
    height: int = Field(ge=1, le=MAX_SIDE)
