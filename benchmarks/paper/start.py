"""The start of sampling: `torch.rand` in the text, `torch.randn` in the code (erratum E11)."""

from pathlib import Path

import torch

from difuso.model import sample
from difuso.model.noise import image_generator

from ..report import show
from .sheets import Row, save_sheet, to_images
from .shipped import SEEDS, SHAPE, load_faces, right_chain, starts


def draw(out: Path) -> None:
    """Starts DDIM, which keeps its start, and the chain of 1000 steps, which forgets it, from both kinds of noise."""
    faces = load_faces()
    uniform = torch.cat([torch.rand((1, *SHAPE), generator=image_generator(seed)) for seed in SEEDS])
    ddim = faces.plan(sampler="ddim", steps=50, spacing="linspace", start=999, clip="none")
    ddpm = faces.plan(sampler="ddpm", steps=1000, spacing="linspace", variance="fixed_large", start=999, clip="none")
    made = {
        "DDIM, 50\nrandn": sample(ddim, faces, shape=SHAPE, seeds=SEEDS, noise=starts()),
        "DDIM, 50\nrand": sample(ddim, faces, shape=SHAPE, seeds=SEEDS, noise=uniform),
        "DDPM, 1000\nrandn": right_chain()[0],
        "DDPM, 1000\nrand": sample(ddpm, faces, shape=SHAPE, seeds=SEEDS, noise=uniform),
    }
    save_sheet([Row(label, to_images(x)) for label, x in made.items()], out)
    show(
        "grey levels of the four images",
        ("", "mean", "standard deviation"),
        [
            (label.replace("\n", ", "), float(127.5 * (x.mean() + 1)), float(127.5 * x.std()))
            for label, x in made.items()
        ],
    )
