"""How others train: the network, loss, optimiser and averaging of two projects, with the settings that they ship.

Only the settings are theirs. The loop of `benchmarks.training` takes images from memory, so it is faster than their own
loops, which read a file for each image. Both networks are narrowed to about as many parameters as ours. Mirroring is
off, because these images must not be mirrored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.images import ImageArray

CALLS = 50  # of DDIM, for each image


class Peer(ABC):
    """A training run of another project.

    Args:
        steps: the number of optimiser steps that the learning rate is planned for.
        image_size, channels: the shape of the images.
    """

    name: ClassVar[str]
    batch_size: ClassVar[int] = 16  # both projects

    @abstractmethod
    def __init__(self, steps: int, image_size: int, channels: int) -> None: ...

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Returns the number of the network's parameters."""

    @abstractmethod
    def step(self, images: Tensor) -> None:
        """Learns from a batch, uint8 of shape (B, C, H, W)."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Saves the averaged weights."""

    @abstractmethod
    def load(self, path: Path) -> None:
        """Loads a file of `save`; then `draw` may be called."""

    @abstractmethod
    def draw(self, count: int, seed: int) -> ImageArray:
        """Draws images by DDIM, uint8 of shape (count, H, W, C)."""


class Diffusers(Peer):
    """examples/unconditional_image_generation/train_unconditional.py of huggingface/diffusers."""

    name = "diffusers"

    def __init__(self, steps: int, image_size: int, channels: int) -> None:
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        down, up = ["DownBlock2D"] * 6, ["UpBlock2D"] * 6
        down[4], up[1] = "AttnDownBlock2D", "AttnUpBlock2D"
        self.network = UNet2DModel(
            sample_size=image_size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=2,
            block_out_channels=(32, 32, 64, 64, 96, 96),  # theirs are four to five times as wide: 114 M parameters
            down_block_types=tuple(down),
            up_block_types=tuple(up),
        )
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.rate = get_scheduler("cosine", self.optimizer, num_warmup_steps=500, num_training_steps=steps)
        self.ema = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)

    @property
    def parameters(self) -> int:
        return _count(self.network)

    def step(self, images: Tensor) -> None:
        x0 = images.float() / 127.5 - 1
        noise = torch.randn_like(x0)
        t = torch.randint(0, 1000, (len(x0),))
        predicted = self.network(self.scheduler.add_noise(x0, noise, t), t).sample
        F.mse_loss(predicted, noise).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())

    def save(self, path: Path) -> None:
        self.ema.copy_to(self.network.parameters())
        torch.save(self.network.state_dict(), path)

    def load(self, path: Path) -> None:
        self.network.load_state_dict(torch.load(path, weights_only=True))
        self.network.to(memory_format=torch.channels_last)  # faster, and the same images

    def draw(self, count: int, seed: int) -> ImageArray:
        from diffusers import DDIMPipeline, DDIMScheduler

        pipeline = DDIMPipeline(self.network.eval(), DDIMScheduler.from_config(self.scheduler.config))
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(seed)
        images: Any = pipeline(count, generator, num_inference_steps=CALLS, output_type="np").images
        return to_uint8(images)


class Lucidrains(Peer):
    """denoising_diffusion_pytorch.Trainer of lucidrains/denoising-diffusion-pytorch."""

    name = "lucidrains"

    def __init__(self, steps: int, image_size: int, channels: int) -> None:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA

        unet = Unet(dim=22, dim_mults=(1, 2, 4, 8), channels=channels)  # theirs is 64 wide: 35.7 M parameters
        self.diffusion = GaussianDiffusion(unet, image_size=image_size, timesteps=1000, sampling_timesteps=CALLS)
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
        self.ema = EMA(self.diffusion, beta=0.995, update_every=10)

    @property
    def parameters(self) -> int:
        return _count(self.diffusion.model)

    def step(self, images: Tensor) -> None:
        self.diffusion(images.float() / 255).backward()
        torch.nn.utils.clip_grad_norm_(self.diffusion.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()

    def save(self, path: Path) -> None:
        torch.save(self.ema.ema_model.state_dict(), path)

    def load(self, path: Path) -> None:
        self.diffusion.load_state_dict(torch.load(path, weights_only=True))
        self.diffusion.model.to(memory_format=torch.channels_last)  # faster, and the same images

    def draw(self, count: int, seed: int) -> ImageArray:
        torch.manual_seed(seed)
        images: Tensor = self.diffusion.eval().sample(batch_size=count)
        return to_uint8(images.permute(0, 2, 3, 1).numpy())


def to_uint8(images: np.ndarray[Any, Any]) -> ImageArray:
    """Converts images in [0, 1] to bytes."""
    levels: ImageArray = np.rint(images * 255).astype(np.uint8)
    return levels


def _count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


PEER_TRAINERS: tuple[type[Peer], ...] = (Diffusers, Lucidrains)
