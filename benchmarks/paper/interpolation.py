"""Fig. 11: images between two images, with shared and with independent noise (errata E16 and E17)."""

from pathlib import Path

import torch
from torch import Tensor

from difuso.model import sample
from difuso.model.images import from_levels
from difuso.model.noise import draw_noise, image_generator, mix, q_sample
from difuso.training.data.faces import draw_face

from ..report import show
from .sheets import Row, save_sheet, tensors, to_images
from .shipped import LINEAR, SHAPE, load_faces

SHARES = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
T, STEPS, SEED = 299, 300, 7


def draw(out: Path) -> None:
    """Mixes two faces at timestep T and runs the chain from there, with the same draws for every share."""
    faces = load_faces()
    a, b = (from_levels(tensors([draw_face(f"test-{i}", 64)])) for i in (2, 5))
    first, second = (draw_noise([image_generator(seed)], SHAPE) for seed in (SEED, SEED + 1))
    plan = faces.plan(sampler="ddpm", steps=STEPS, spacing="linspace", start=T)

    def between(noise_a: Tensor, noise_b: Tensor) -> Tensor:
        t = torch.tensor([T])
        a_t, b_t = q_sample(LINEAR, a, t, noise_a), q_sample(LINEAR, b, t, noise_b)
        x_start = torch.cat([mix(a_t, b_t, share) for share in SHARES])
        return sample(plan, faces, shape=SHAPE, seeds=[SEED] * len(SHARES), noise=x_start)

    rows = [
        Row("(1−λ) x₀ + λ x₀′", to_images(torch.cat([mix(a, b, share) for share in SHARES]))),
        Row("ε = ε′", to_images(between(first, first))),
        Row("ε ≠ ε′\nλ", to_images(between(first, second)), [f"{share:g}" for share in SHARES]),
    ]
    save_sheet(rows, out)
    spread = 1 - float(LINEAR.alphas_cumprod[T])
    show(
        f"variance of the noise in the mixture at t = {T}",
        ("share", "shared", "independent"),
        [(share, spread, spread * ((1 - share) ** 2 + share**2)) for share in SHARES],
    )
