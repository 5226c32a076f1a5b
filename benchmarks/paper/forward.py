"""Fig. 1 and equations 1 and 2: an image on its way into noise."""

from pathlib import Path

import numpy as np
import torch

from difuso.model import NoiseSchedule
from difuso.model.images import from_levels
from difuso.model.noise import draw_noise, image_generator, q_sample
from difuso.training.data.faces import draw_face

from ..report import show
from .sheets import Row, save_sheet, tensors, to_images

SHOWN = (0, 99, 199, 299, 399, 499, 749, 999)
SCHEDULES = {"linear": NoiseSchedule.linear(), "cosine": NoiseSchedule.cosine()}


def draw(out: Path) -> None:
    """Noises one face with the paper's schedule and with that of the models that ship."""
    face = from_levels(tensors([draw_face("test-0", 64)]))
    noise = draw_noise([image_generator(0)], (3, 64, 64))
    count, t = len(SHOWN), torch.tensor(SHOWN)
    rows, ratios = [], {name: signal_to_noise(schedule) for name, schedule in SCHEDULES.items()}
    for name, schedule in SCHEDULES.items():
        x_t = q_sample(schedule, face.expand(count, -1, -1, -1), t, noise.expand(count, -1, -1, -1))
        captions = [f"{each}: {ratios[name][each]:.3g}" for each in SHOWN]
        rows.append(Row(f"{name}\nt: SNR", to_images(x_t), captions))
    save_sheet(rows, out)
    show(
        "signal-to-noise ratio abar / (1 - abar)",
        ("t", *ratios, *(f"{name}, dB" for name in ratios)),
        [(t, *(r[t] for r in ratios.values()), *(10 * np.log10(r[t]) for r in ratios.values())) for t in SHOWN],
    )


def signal_to_noise(schedule: NoiseSchedule) -> list[float]:
    """Returns abar / (1 - abar) of each timestep: of pixels of variance 1, signal over noise."""
    return list((schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)).tolist())
