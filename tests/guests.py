"""Networks and samplers with the signatures and conventions of other projects, written from the published formulas.

The samplers begin at x, standard normal, and draw further noise from `noise`; all is float64.
"""

import math
import sys
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

Network = Callable[[Tensor, Tensor], Tensor]  # from x and a time for each image


class Smooth(nn.Module):
    """Two convolutions between which a time and a label act; no run through it is chaotic."""

    def __init__(self, channels: int, out: int | None = None, classes: int = 0) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, out or channels, 3, padding=1)
        self.embedding = nn.Embedding(classes, 8) if classes else None

    def compute(self, x: Tensor, time: Tensor, embedded: Tensor | None = None) -> Tensor:
        emb = (time.to(x) * 3).sin()[:, None] + (0 if embedded is None else embedded)
        out: Tensor = self.last((self.first(x) + emb[:, :, None, None]).tanh())
        return out


class LucidrainsUnet(Smooth):
    """denoising_diffusion_pytorch.classifier_free_guidance.Unet"""

    def __init__(self, dim: int, num_classes: int, cond_drop_prob: float = 0.5, channels: int = 3) -> None:
        super().__init__(channels)
        self.classes_emb, self.null_classes_emb = nn.Embedding(num_classes, 8), nn.Parameter(torch.randn(8))
        self.cond_drop_prob = cond_drop_prob

    def forward(self, x: Tensor, time: Tensor, classes: Tensor, cond_drop_prob: float | None = None) -> Tensor:
        probability = self.cond_drop_prob if cond_drop_prob is None else cond_drop_prob
        keep = torch.rand(len(x), 1) >= probability
        return self.compute(x, time / 1000, torch.where(keep, self.classes_emb(classes), self.null_classes_emb))


class RectifiedUnet(Smooth):
    """rectified_flow_pytorch.Unet"""

    def __init__(self, dim: int, channels: int = 3) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor, times: Tensor | None = None, cond: Tensor | None = None) -> Tensor:
        assert times is not None
        return self.compute(x, times)


class UNetModelWrapper(Smooth):
    """torchcfm.models.unet.unet.UNetModelWrapper"""

    def __init__(self, dim: tuple[int, int, int], num_channels: int, num_res_blocks: int) -> None:
        super().__init__(dim[0])

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.compute(x, t)


class ImageDenoiserModelV1(Smooth):
    """k_diffusion.models.ImageDenoiserModelV1"""

    def __init__(self, c_in: int, feats_in: int) -> None:
        super().__init__(c_in)

    def forward(self, input: Tensor, sigma: Tensor, mapping_cond: Tensor | None = None) -> Tensor:
        return self.compute(input, sigma.log() / 4)


class DiffusionModelUNet(Smooth):
    """monai.networks.nets.DiffusionModelUNet"""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels)

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, class_labels: Tensor | None = None
    ) -> Tensor:
        return self.compute(x, timesteps / 1000)


class SegmentationUnet(Smooth):
    """segmentation_models_pytorch.Unet"""

    def __init__(self, encoder_name: str, encoder_weights: str | None, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x, torch.zeros(len(x)))


STAND_INS: dict[str, dict[str, type[nn.Module]]] = {
    "denoising_diffusion_pytorch.classifier_free_guidance": {"Unet": LucidrainsUnet},
    "rectified_flow_pytorch": {"Unet": RectifiedUnet},
    "torchcfm.models.unet.unet": {"UNetModelWrapper": UNetModelWrapper},
    "k_diffusion.models": {"ImageDenoiserModelV1": ImageDenoiserModelV1},
    "monai.networks.nets": {"DiffusionModelUNet": DiffusionModelUNet},
    "segmentation_models_pytorch": {"Unet": SegmentationUnet},
}


def install(patch: pytest.MonkeyPatch) -> None:
    """Lets imports of the other projects find their stand-ins."""
    for name, classes in STAND_INS.items():
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            prefix = ".".join(parts[:count])
            patch.setitem(sys.modules, prefix, sys.modules.get(prefix, ModuleType(prefix)))
        vars(sys.modules[name]).update(classes)


def linear_abar() -> Tensor:
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)


def lucidrains_ddim(
    network: Callable[..., Tensor], x: Tensor, noise: Callable[[], Tensor], *, label: int, scale: float
) -> Tensor:
    """GaussianDiffusion.ddim_sample: cosine schedule, 50 of 1000 steps, eta 1, clip_denoised, rescaled_phi 0."""
    u = torch.linspace(0, 1000, 1001, dtype=torch.float64) / 1000
    course = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    abar = torch.cumprod(1 - (1 - course[1:] / course[:-1]).clip(0, 0.999), dim=0)
    labels = torch.full((len(x),), label)
    for time, following in pairwise(reversed(torch.linspace(-1, 999, 51).int().tolist())):
        t = torch.full((len(x),), time)
        given, null = (network(x, t, labels, cond_drop_prob=drop) for drop in (0.0, 1.0))
        eps = null + (given - null) * scale
        x0 = ((1 / abar[time]).sqrt() * x - (1 / abar[time] - 1).sqrt() * eps).clamp(-1, 1)
        if following < 0:
            return x0
        here, there = abar[time], abar[following]
        sigma = ((1 - here / there) * (1 - there) / (1 - here)).sqrt()
        x = x0 * there.sqrt() + (1 - there - sigma**2).sqrt() * eps + sigma * noise()
    raise AssertionError


def odeint(flow: Network, y: Tensor, times: list[float], *, middle: bool) -> Tensor:
    """torchdiffeq's `midpoint` and torchdyn's `euler`, from noise at the time 0 to an image at 1."""
    for now, following in pairwise(times):
        slope = flow(y, torch.full((len(y),), now))
        if middle:
            slope = flow(y + slope * (following - now) / 2, torch.full((len(y),), (now + following) / 2))
        y = y + slope * (following - now)
    return y


def sample_dpmpp_2m(inner: Network, x: Tensor) -> Tensor:
    """k_diffusion's sampler of K.Denoiser with sigma_data 0.5, on 50 levels of Karras et al.; x is at the first one."""
    roots = torch.linspace(80 ** (1 / 7), 0.01 ** (1 / 7), 50, dtype=torch.float64)
    sigmas = [*(roots**7).tolist(), 0.0]
    before: tuple[float, Tensor] | None = None
    for sigma, following in pairwise(sigmas):
        total = math.hypot(sigma, 0.5)
        denoised: Tensor = x * 0.25 / total**2 + inner(x / total, torch.full((len(x),), sigma)) * sigma * 0.5 / total
        if not following:
            return denoised
        h, better = math.log(sigma / following), denoised
        if before is not None:
            r = math.log(before[0] / sigma) / h
            better = (1 + 1 / (2 * r)) * denoised - before[1] / (2 * r)
        x = following / sigma * x - math.expm1(-h) * better
        before = sigma, denoised
    raise AssertionError


def monai_ddim(network: Network, x: Tensor, times: list[int]) -> Tensor:
    """DDIMScheduler with 50 of 1000 steps, linear_beta and clip_sample."""
    abar = linear_abar()
    for time in times:
        here, there = abar[time], abar[time - 20] if time >= 20 else torch.tensor(1.0)
        eps = network(x, torch.full((len(x),), time))
        x0 = ((x - (1 - here).sqrt() * eps) / here.sqrt()).clamp(-1, 1)
        x = there.sqrt() * x0 + (1 - there).sqrt() * eps
    return x


def monai_ddpm(network: Network, x: Tensor, noise: Callable[[], Tensor]) -> Tensor:
    """DDPMScheduler with all 1000 steps, linear_beta, fixed_small and clip_sample."""
    abar = linear_abar()
    for time in reversed(range(1000)):
        here, there = abar[time], abar[time - 1] if time else torch.tensor(1.0)
        beta = 1 - here / there
        x0 = ((x - (1 - here).sqrt() * network(x, torch.full((len(x),), time))) / here.sqrt()).clamp(-1, 1)
        x = (there.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - there) * x) / (1 - here)
        if time:
            x = x + ((1 - there) / (1 - here) * beta).sqrt() * noise()
    return x
