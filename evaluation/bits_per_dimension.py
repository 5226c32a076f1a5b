"""The variational bound of a model for images that it was not trained on, in bits per dimension."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from difuso.model.checkpoint import Checkpoint
from difuso.model.errors import NonFiniteSample
from difuso.model.images import from_levels
from difuso.model.likelihood import Vlb, vlb
from difuso.model.memory import move
from difuso.model.plans.spacing import Levels
from difuso.model.sampling import networks_of
from difuso.training.data.images import ImageArray


def variational_bound(
    checkpoint: Checkpoint,
    images: ImageArray,
    levels: Levels,
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    report: Callable[[float], None],
) -> Vlb:
    """Computes the bound of a model's own chain for uint8 images of shape (N, H, W, C); image i has the noise seed + i.

    `report` is called with the share that is done, 0..1. Raises PlanError if the model has no such chain, or needs a
    condition, and NonFiniteSample if the network returns NaN or infinity.
    """
    move(checkpoint.network, device)
    network = networks_of(checkpoint)["denoiser"]  # without conditions, as the images come with none
    pixels = from_levels(torch.from_numpy(images))
    seeds = range(seed, seed + len(pixels))
    work, done = len(pixels) * len(levels.timesteps), 0

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        nonlocal done
        out = network(x_t.to(device), t.to(device)).cpu()
        done += len(x_t)
        report(done / work)
        return out

    config = checkpoint.config
    parts = [
        vlb(
            pixels[first : first + batch_size],
            denoiser,
            levels,
            seeds=seeds[first : first + batch_size],
            prediction=config.prediction,
            variance=config.variance,
            clipping=config.clip,
        )
        for first in range(0, len(pixels), batch_size)
    ]
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("prior", "terms", "decoder", "mse")}
    result = Vlb(levels.timesteps, **whole)
    if not torch.isfinite(result.total).all():
        raise NonFiniteSample("the network returned NaN or infinity, so the bound cannot be computed")
    return result


def summary(result: Vlb) -> dict[str, Any]:
    """Returns a result as JSON: means over the images, then values of each image and of each timestep."""
    parts = {"vlb": result.total, "prior": result.prior, "terms": result.terms.sum(dim=1), "decoder": result.decoder}
    return {
        "bits_per_dim": {name: mean_and_error(bits) for name, bits in parts.items()},
        "l_simple": mean_and_error(result.mse.mean(dim=1)),
        "vlb_of_each_image": result.total.tolist(),
        "timesteps": list(result.timesteps),
        "bits_per_dim_of_each_timestep": level_bits(result).tolist(),
        "mse_of_each_timestep": result.mse.mean(dim=0).tolist(),
    }


def mean_and_error(values: Tensor) -> dict[str, float | None]:
    """Returns the mean over the images, shape (B,), and its standard error, which is None for a single image."""
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"mean": float(values.mean()), "standard_error": error}


def level_bits(result: Vlb) -> Tensor:
    """Returns L_0 and every L_{t-1}, mean over the images, shape (K,)."""
    return torch.cat([result.decoder[:, None], result.terms], dim=1).mean(dim=0)


def plot_vlb(result: Vlb, out: Path) -> None:
    """Plots the bits, and the squared error that training minimises, over the timesteps, as a PNG."""
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    bits = level_bits(result).numpy()
    above.plot(result.timesteps[:1], bits[:1], "o", label="$L_0$, decoder")
    above.plot(result.timesteps[1:], bits[1:], linewidth=1.2, label="$L_{t-1}$")
    above.legend()
    below.plot(result.timesteps, result.mse.mean(dim=0).numpy(), linewidth=1.2)
    above.set(ylabel="bits/dim", yscale="log")
    below.set(ylabel="mean squared error of eps", yscale="log", xlabel="timestep t")
    for axes in (above, below):
        axes.set_xscale("symlog", linthresh=1)  # logarithmic, with room for t = 0, near which most bits are spent
        axes.set_xlim(-0.2, 1.3 * result.timesteps[-1] + 1)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
