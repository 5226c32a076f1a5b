"""Our checkpoint inside diffusers' own DDIM pipeline, which the peers run."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler
from PIL import Image
from torch import Tensor, nn

from difuso.model import Checkpoint, load_checkpoint, networks_of
from difuso.worker.device.calls import precision_on, prepare
from difuso.worker.settings import WorkerSettings

from .load import RUN

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class AsUNet2DModel(nn.Module):
    """A network of ours with the interface of diffusers' UNet2DModel."""

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        super().__init__()
        # The memory layout and the number format of our worker, so that both compute the same.
        where = torch.device(device)
        network = prepare(checkpoint.network, where, precision_on(where, checkpoint.config))
        self.denoiser = networks_of(replace(checkpoint, network=network))["denoiser"]
        self.config = SimpleNamespace(sample_size=checkpoint.config.image_size, in_channels=checkpoint.config.channels)
        self.dtype = torch.float32
        self.device = torch.device(device)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        x = x.contiguous(memory_format=torch.channels_last)
        return SimpleNamespace(sample=self.denoiser(x, t.to(x.device).expand(len(x))))


class Painter:
    """A pipeline that makes PNGs.

    Args:
        folder: the folder of a checkpoint.
        device: the device that computes.
    """

    def __init__(self, folder: Path, device: str) -> None:
        checkpoint = load_checkpoint(folder).in_precision(WorkerSettings().precision)
        config = checkpoint.config
        scheduler = DDIMScheduler(
            config.schedule.num_train_timesteps,
            trained_betas=checkpoint.schedule.betas.tolist(),
            prediction_type=PREDICTIONS[config.prediction],
            timestep_spacing=RUN["spacing"],
            clip_sample=config.clip.mode == "static",
        )
        self._pipeline = DDIMPipeline(AsUNet2DModel(checkpoint, device), scheduler)
        self._pipeline.set_progress_bar_config(disable=True)
        self.paint([0], steps=2)

    def paint(self, seeds: Sequence[int], *, steps: int) -> list[Image.Image]:
        """Draws one image for each seed, all in one call of the pipeline."""
        images: list[Image.Image] = self._pipeline(
            batch_size=len(seeds),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            num_inference_steps=steps,
            use_clipped_model_output=True,  # as guided-diffusion and difuso
        ).images
        return images


def to_png(images: Sequence[Image.Image]) -> bytes:
    """Returns the image as a PNG, or a contact sheet of several."""
    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    sheet = Image.new(images[0].mode, (columns * width, math.ceil(len(images) / columns) * height))
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def quiet_stdout() -> None:
    """Sends a server's output to standard error: standard output is for figures."""
    os.dup2(2, 1)
