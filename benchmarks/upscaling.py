"""How well a conditional model enlarges drawn faces that it has not seen, compared with filters: PSNR, SSIM and FD.

Every image is a PNG that goes the way of a request to /upscale. This is not part of `make bench`; docs/upscaling.md has
the figures.

DDRM (/restore, task superres) is not among the ways: it needs a model that draws images of the large size from noise,
and none of 128x128 ships.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from skimage.metrics import structural_similarity

from evaluation.distances import frechet_distance, moments
from evaluation.features import EfficientNetLite0
from training.data.conditions import smaller
from training.data.faces import draw_face
from training.data.images import ImageArray

from . import machine
from .classical import Images, psnr, resized
from .local_endpoints import LocalEndpoints
from .report import Report, say, show

FILTERS = ("bicubic", "lanczos")
CALLS = (1, 2, 4, 10, 25, 50)
SHOWN = 6  # faces on the sheet


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder; it must enlarge faces.")] = Path(
        "checkpoints/faces64to128"
    ),
    images: Annotated[int, typer.Option(min=8, help="Faces of the test split.")] = 200,
    calls: Annotated[list[int], typer.Option(help="Network calls for each image; may be repeated.")] = list(CALLS),  # noqa: B006
    sampler: Annotated[str, typer.Option(help="Sampler; it starts at the last timestep.")] = "ddim",
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-upscaling.json"),
    sheet: Annotated[Path, typer.Option(help="Image of some faces, enlarged in each way.")] = Path(
        "docs/images/upscaling.png"
    ),
) -> None:
    """Measures /upscale on one core; about half an hour."""
    machine.warn_if_busy()
    torch.set_num_threads(1)
    local = LocalEndpoints(model)
    shape = local.model.config.condition_shape
    assert shape is not None, "this model does not draw from an image"
    faces = [draw_face(f"test-{i}", local.model.config.shape.height) for i in range(images)]
    small = [smaller(face, shape) for face in faces]
    report = Report(out, {"model": str(model), "version": local.model.version, "images": images, "sampler": sampler})
    extractor = EfficientNetLite0()
    known = moments(_pooled(extractor, faces))
    found: dict[str, dict[str, float]] = {}
    rows = [[resized(each, len(faces[0]), "nearest") for each in small[:SHOWN]]]
    for way, seconds, made in _ways(local, small, calls, sampler):
        found[way] = {
            "PSNR": float(np.mean([psnr(image, face) for image, face in zip(made, faces, strict=True)])),
            "SSIM": float(np.mean([ssim(image, face) for image, face in zip(made, faces, strict=True)])),
            "FD": frechet_distance(moments(_pooled(extractor, made)), known),
            "seconds": seconds / images,
        }
        rows.append(list(made[:SHOWN]))
        report.add("ways", found)
        say(f"{way}: {found[way]}")
    columns = ("PSNR", "SSIM", "FD", "seconds")
    title = f"enlarged: dB, SSIM, FD-{EfficientNetLite0.name}, seconds of one image"
    show(title, ("", *columns), [(way, *figures.values()) for way, figures in found.items()])
    _save_sheet([*rows, faces[:SHOWN]], sheet)
    report.close()


def ssim(image: ImageArray, truth: ImageArray) -> float:
    """Returns the structural similarity (Wang et al. 2004), by a Gaussian window of 1.5 pixels; the channels' mean."""
    similarity: float = structural_similarity(  # type: ignore[no-untyped-call]
        image, truth, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(similarity)


def _ways(
    local: LocalEndpoints, small: Images, calls: Sequence[int], sampler: str
) -> Iterator[tuple[str, float, list[ImageArray]]]:
    """Yields each way to enlarge, with its seconds and its images."""
    size = local.model.config.shape.height
    for way in FILTERS:
        yield way, 0.0, [resized(image, size, way) for image in small]
    for steps in calls:
        begin = time.perf_counter()
        made = local.upscale(small, steps=steps, sampler=sampler, spacing="trailing")
        yield f"{steps} calls of {sampler}", time.perf_counter() - begin, made


def _pooled(extractor: EfficientNetLite0, images: Images) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
    parts = (np.stack(images[first : first + 20]) for first in range(0, len(images), 20))
    return np.concatenate([extractor(part).pooled for part in parts])


def _save_sheet(rows: Sequence[Images], path: Path) -> None:
    """Saves a sheet with a row for each way and a column for each face."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows])).save(path, optimize=True)


if __name__ == "__main__":
    typer.run(main)
