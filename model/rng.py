"""One random generator per image, so that an image depends on its seed and on nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor


def image_generator(seed: int) -> torch.Generator:
    """Makes the generator of the image with this seed; it is on the CPU, whatever the device."""
    return torch.Generator("cpu").manual_seed(seed)


def draw_noise(generators: Sequence[torch.Generator], shape: tuple[int, int, int]) -> Tensor:
    """Draws standard normal noise, shape (len(generators), C, H, W), float32 on the CPU; once from each generator.

    Each draw has the shape (1, C, H, W), as in diffusers with a list of generators, so seeds mean the same there.
    """
    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators])
