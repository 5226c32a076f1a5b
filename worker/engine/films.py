"""Makes the films of a finished job from the predictions that its trajectories kept."""

import io

import torch
from PIL import Image

from model.images import to_uint8
from model.transfers import download

from ..kinds import WORKER_KINDS
from .active import ActiveJob

QUALITY, METHOD = 80, 2  # of WebP: a film of 64x64 pixels has 2 to 12 kB and takes 2 ms


def encode_films(active: ActiveJob) -> list[bytes]:
    """Returns the film of each image of the answer, a WebP of its moments side by side.

    It is empty for images that are not PNGs and for runs of a single call. The film of a job that another worker has
    begun shows what came after that.
    """
    moments = min(len(each.frames) for each in active.filmed)
    if active.job.planes > 1 or moments == 0:
        return []
    frames = [each.frames[len(each.frames) - moments :] for each in active.filmed]
    pixels = download([frame for film in frames for frame in film])
    shown = [
        WORKER_KINDS[active.job.kind].finish(active.job, pixels[moment::moments]) for moment in range(moments)
    ]  # of each moment the images of the answer
    return [_encode(torch.cat(film, dim=-1)) for film in zip(*shown, strict=True)]


def _encode(strip: torch.Tensor) -> bytes:
    """Returns the WebP of an image of shape (C, H, W) in [-1, 1]."""
    levels = to_uint8(strip[None])[0].numpy()
    file = io.BytesIO()
    Image.fromarray(levels.squeeze(-1) if levels.shape[-1] == 1 else levels).save(
        file, "WEBP", quality=QUALITY, method=METHOD
    )
    return file.getvalue()
