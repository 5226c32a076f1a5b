"""The parameters of requests, for editors and type checkers; docs/http-api.md describes them.

`tests/unit/difuso/client/test_options.py` writes this file from the server's own queries (`jobs.kinds`,
`app.routers.jobs`) whenever they have changed.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Required, TypedDict

from .images import ImageLike, NoiseLike
from .results import State

# Without `from __future__ import annotations`: Python 3.11 does not see Required in a string.

KindName = Literal["denoise", "generate", "interpolate", "restore", "upscale"]

# The images of each kind, by the names of their parts; those of a method's signature come first.
IMAGES: dict[KindName, tuple[str, ...]] = {
    "denoise": ("image",),
    "generate": ("noise",),
    "interpolate": ("image_a", "image_b"),
    "restore": ("image", "mask"),
    "upscale": ("image",),
}

ConditionValue = str | float | Sequence[float] | ImageLike
"""The value of a condition: the name of a choice, a number, the numbers of a vector, an image, a map or a sequence."""


class Headers(TypedDict, total=False):
    """The parameters that a request sends as headers."""

    idempotency_key: str
    """Name of this request: repeated with the same name it finds the same job; by default a new one."""
    urgency: int
    """Urgency of the job, 0 (first) to 7 (last); by default 3."""


class Sampling(Headers, total=False):
    """Parameters of every kind of job; one that is absent or None has the default of the model."""

    sampler: str | None
    """Sampler: ddpm, ddim, dpmpp, dpmpp_sde, dpmpp_3m, dpmpp_3m_full, unipc, euler, heun, heun_flow, lcm, lms, plms,
    ipndm, deis, deis_3, dpm2, dpm2_ancestral, dpmpp_2s, or a plug-in's; by default the model's."""
    steps: int | None
    """Network calls for each image, at most the model's T."""
    spacing: str | None
    """Choice of the timesteps: linspace, leading, trailing, quad, exponential, karras, or a list of at most 100, such
    as at:12.5,160,999."""
    eta: float | None
    """Stochasticity: up to 1 for ddim, 10 for dpmpp, 0 for the others."""
    guidance_scale: float | None
    """Scale of guidance by a weaker network, or without one classifier-free, which needs a label; 1 is off."""
    guidance_low: float | None
    """Noise level, as sigma, above which guidance_scale acts; by default the model's, or 0."""
    guidance_high: float | None
    """Noise level, as sigma, up to which guidance_scale acts; by default the model's, or 1000000, which is no limit."""
    variance: Literal["fixed_small", "fixed_large", "learned", "learned_range"] | None
    """Variance of the noise of each step; ddpm only."""
    clip: Literal["none", "static", "dynamic"] | None
    """Clipping of the predicted image at each step."""
    classifier_scale: float | None
    """Scale of guidance by the model's classifier; 0 is off; needs a label."""
    n: int | None
    """Number of images; by default 1, or as many as there are seeds, labels or values."""
    plan: str | None
    """Name of one of the model's plans, which then replaces the model's defaults."""
    seed: int | Sequence[int] | None
    """Seed of image 0, where image i has seed + i; repeat it for one image of each seed."""
    label: str | int | Sequence[str | int] | None
    """Class, by name or index; repeat it for one image of each, or say all for the classes in turn."""
    conditions: Mapping[str, ConditionValue | Sequence[ConditionValue] | None] | None
    """Values of the model's conditions by name, one for all images or one for each; images of conditions, too."""
    guide: str | Sequence[str] | None
    """Name of a condition, or label, that guidance_scale acts on; by default all that may be left out."""
    model: str | None
    """Name of the model; by default the first, unless the server has another."""
    version: str | None
    """Version of the model, at least 12 digits; by default the newest that a worker holds."""
    tag: str | None
    """A word of your own, which the job shows and a list of jobs can be asked for."""
    webhook: str | None
    """Address that the server calls by POST when the job has ended."""
    bits: Literal[8, 16]
    """Bits of each pixel in the answer; 16 is for models whose images are not RGB."""
    trace: int | str | Sequence[int | str]
    """Network calls whose x_t and x0 are kept as floats: by number, last or all; may be repeated."""


class WithImages(Sampling, total=False):
    """Parameters of every kind of job that takes images."""

    fit: Literal["cover", "contain"]
    """How images get the size of the model: cropped, or padded with white."""


class Denoise(WithImages, total=False):
    """Parameters of POST /denoise."""

    sigma: float | None
    """Standard deviation of the noise, in grey levels of 0..255."""
    t: int | None
    """Instead of sigma: the timestep with the noise of the image."""
    strength: float | None
    """Instead of sigma: the image is clean, and redrawn from this part of T."""
    mode: Literal["sample", "mmse"]
    """Run the reverse chain, or estimate at once."""
    average: bool
    """Return the mean of the n samples."""


class Generate(Sampling, total=False):
    """Parameters of POST /generate."""

    upscale: str | None
    """Name of a model that enlarges the images, as /upscale does."""
    upscale_steps: int | None
    """Network calls of that model for each image; by default its own."""
    upscale_augmentation: float | None
    """Noise that is added to the images first; by default that model's."""
    noise: NoiseLike | None
    """Noise x_T, (H, W, C) for all images or (N, H, W, C) for each; by default that of the seeds."""


class Interpolate(WithImages, total=False):
    """Parameters of POST /interpolate."""

    lambda_: float | Sequence[float]
    """Share of the second image or seed, 0 to 1; repeat it for several images."""
    t: int | None
    """Timestep to which both images are noised or inverted."""
    mode: Literal["ddpm", "ddim"]
    """Noise and mix, or invert and follow the arc."""
    noise: Literal["shared", "independent", "rescaled"]
    """Noise of the two images; ddpm only."""


class Restore(WithImages, total=False):
    """Parameters of POST /restore."""

    task: Required[Literal["inpaint", "superres", "colorize", "deblur"]]
    """Degradation to undo."""
    factor: Literal[2, 4]
    """Scale factor; superres only."""
    blur: Literal["gaussian", "uniform"]
    """Kernel of the blur; deblur only."""
    width: float
    """Width of the blur, in pixels of the model; deblur only."""
    sigma: float
    """Standard deviation of the noise, in grey levels of 0..255."""
    mask: ImageLike | None
    """Image of the image's size, white where the image is missing; inpaint only."""


class Upscale(WithImages, total=False):
    """Parameters of POST /upscale."""

    augmentation: float | None
    """Standard deviation of the noise that is added to the image first, of a range of -1..1; by default the model's."""


class Filters(TypedDict, total=False):
    """The properties that all jobs of a list share."""

    state: State | None
    """Only jobs in this state."""
    kind: KindName | None
    """Only jobs of this kind."""
    model: str | None
    """Only jobs of this model."""
    tag: str | None
    """Only jobs with this tag."""
    without_tag: str | None
    """Only jobs without this tag."""
    owner: str | None
    """Only jobs of this owner, for operators."""
