"""How well a model removes noise, undoes degradations and goes between images: decibels on faces that it has not seen.

Every image is a PNG that goes the way of a request: it is fitted and read as the API does it, and made by the worker's
engine. This is not part of `make bench`. docs/pictures.md shows the sheets, docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from PIL import Image

from jobs.images.fitting import fit
from jobs.images.noise_estimate import estimate_sigma
from model.images import from_levels, to_uint8
from model.operators import Blur, Operator, SuperResolution, gaussian_kernel, uniform_kernel
from model.shape import Shape
from training.data.faces import draw_face
from training.data.images import ImageArray

from . import machine
from .classical import Images, psnr, resized, tuned_denoisers
from .local_endpoints import LocalEndpoints
from .report import Bar, Report, say, show

TUNED_ON = 4  # faces of the training split, for the classical denoisers
AVERAGED = 8
SHOWN = 6  # faces on a sheet
PAIRS = 2
Part = Literal["denoise", "restore", "interpolate"]


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder; it must draw faces.")] = Path(
        "checkpoints/faces64"
    ),
    images: Annotated[int, typer.Option(min=8, help="Faces of the test split.")] = 16,
    only: Annotated[Part | None, typer.Option(help="One part; by default all.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("var/bench-restoration.json"),
    sheets: Annotated[Path, typer.Option(help="Folder of the sheets.")] = Path("docs/images"),
) -> None:
    """Measures /denoise, /restore and /interpolate on one core; about 15 minutes."""
    machine.warn_if_busy()
    torch.set_num_threads(1)
    local = LocalEndpoints(model)
    size = local.model.config.shape.height
    faces = [draw_face(f"test-{i}", size) for i in range(images)]
    report = Report(out, {"model": str(model), "version": local.model.version, "images": images})
    parts = {"denoise": measure_denoising, "restore": measure_restoring, "interpolate": measure_interpolation}
    for name in [only] if only else parts:
        begin = time.perf_counter()
        parts[name](local, faces, report, sheets)
        say(f"{name}: {local.image_steps} image-steps so far, {time.perf_counter() - begin:.0f} s")
    report.close()


def measure_denoising(local: LocalEndpoints, faces: Images, report: Report, sheets: Path) -> None:
    """Measures white Gaussian noise, clipped to 8 bits, against denoisers that were tuned on other faces."""
    found: dict[str, dict[str, float]] = {}
    settings: dict[str, Any] = {}
    for sigma in (25.0, 10.0, 50.0):
        noisy, answers = _noisy(faces, sigma), {}
        others = [draw_face(f"train-{i}", local.model.config.shape.height) for i in range(TUNED_ON)]
        say(f"sigma {sigma:g}: tuning")
        tuned = tuned_denoisers(_noisy(others, sigma), others, sigma)
        for name, (denoiser, setting) in tuned.items():
            settings[f"{name}, sigma {sigma:g}"] = setting
            answers[name] = [denoiser(image) for image in noisy]
        for name, query in _denoise_queries(sigma).items():
            say(f"sigma {sigma:g}: {name}")
            answers[name] = local.denoise(noisy, **query)
        found[f"sigma {sigma:g}"] = {"noisy": _mean_psnr(noisy, faces)} | {
            name: _mean_psnr(made, faces) for name, made in answers.items()
        }
        report.add("denoise", {"psnr": found, "tuned": settings, "estimated": _estimates(noisy)})
        if sigma == 25:
            rows = [noisy, answers["non-local means"], answers["mmse"], answers["sample, ddpm"], faces]
            _save_sheet([row[:SHOWN] for row in rows], sheets / "denoise.png")
    names = list(found["sigma 25"])
    show("denoise: PSNR in dB", ("", *found), [(name, *(found[s].get(name, "") for s in found)) for name in names])
    at_25 = found["sigma 25"]
    report.bar(Bar("mmse above the noisy picture, sigma 25", at_25["mmse"] - at_25["noisy"], 8, "dB", "at least"))
    best = max(at_25[name] for name in tuned)
    report.bar(Bar("mmse minus the best classical denoiser, sigma 25", at_25["mmse"] - best, 0, "dB", "at least"))


def _denoise_queries(sigma: float) -> dict[str, dict[str, Any]]:
    drawn = {"sampler": "ddpm", "steps": 10}
    mean = drawn | {"n": AVERAGED, "average": True}
    queries: dict[str, dict[str, Any]] = {
        "mmse": {"mode": "mmse", "sigma": sigma},
        "mmse, sigma estimated": {"mode": "mmse"},
        "sample, ddpm": drawn | {"sigma": sigma},
        "sample, ddpm, sigma estimated": drawn,
        "sample, ddim": {"sampler": "ddim", "eta": 0.0, "steps": 10, "sigma": sigma},
        f"mean of {AVERAGED} samples, ddpm": mean | {"sigma": sigma},
    }
    return queries | {f"mean of {AVERAGED} samples, ddpm, sigma estimated": mean} if sigma == 25 else queries


@dataclass(frozen=True)
class Case:
    """A degradation, and the images that suffered it.

    Attributes:
        sent: the images that are sent to the API, with `mask`.
        query: the query of /restore.
        simple: the images as they are, or made without a network, by the name of the way.
    """

    name: str
    sent: Images
    query: dict[str, Any]
    simple: Mapping[str, Images]
    mask: ImageArray | None = None


def measure_restoring(local: LocalEndpoints, faces: Images, report: Report, sheets: Path) -> None:
    """Undoes each degradation with 20 and 50 steps, predictions clipped or not, and in the simple way."""
    found: dict[str, dict[str, float]] = {}
    runs = [{"steps": steps, "clip": clip} for steps, clip in ((20, "none"), (20, "static"), (50, "static"))]
    for case in _cases(local, faces):
        say(case.name)
        found[case.name] = {way: _mean_psnr(images, faces) for way, images in case.simple.items()}
        for run in runs:
            made = local.restore(case.sent, case.mask, **case.query, **run)
            score = _mean_psnr(made, faces) if case.mask is None else _inside(made, faces, case.mask)
            found[case.name][f"{run['steps']} steps, clip {run['clip']}"] = score
        report.add("restore", found)
    columns = list(dict.fromkeys(way for figures in found.values() for way in figures))
    show("restore: PSNR in dB", ("", *columns), [(n, *(f.get(c, "") for c in columns)) for n, f in found.items()])
    _restore_sheets(local, faces[:SHOWN], sheets)


def _cases(local: LocalEndpoints, faces: Images) -> Iterator[Case]:
    shape = local.model.config.shape
    size = shape.height
    for factor in (2, 4):
        small = [_degrade(SuperResolution(factor, shape), face) for face in faces]
        simple = {way: [resized(image, size, way) for image in small] for way in ("bicubic", "lanczos")}
        yield Case(f"superres {factor}", small, {"task": "superres", "factor": str(factor)}, simple)
    for name, greyed in (("mean", _mean_of_channels), ("luma", _luma)):
        grey = [greyed(face) for face in faces]
        simple = {"as sent": [np.repeat(image[..., None], 3, axis=-1) for image in grey]}
        yield Case(f"colorize, grey by {name}", grey, {"task": "colorize"}, simple)
    kernels = (("gaussian", 2, gaussian_kernel(2.0)), ("uniform", 9, uniform_kernel(9)))
    for (blur, width, kernel), sigma in product(kernels, (0.0, 5.0)):
        blurred = _noisy([_degrade(Blur(kernel, shape), face) for face in faces], sigma)
        query = {"task": "deblur", "blur": blur, "width": width, "sigma": sigma}
        yield Case(f"deblur {blur} {width}, noise {sigma:g}", blurred, query, {"as sent": blurred})
    for name, mask in _masks(size).items():
        erased = [_erase(face, mask) for face in faces]
        yield Case(f"inpaint {name}, inside the mask", erased, {"task": "inpaint"}, {}, mask)


def _inside(images: Images, faces: Images, mask: ImageArray) -> float:
    """Returns the PSNR of the missing pixels; the others must not have changed by a bit."""
    missing = mask > 0
    for image, face in zip(images, faces, strict=True):
        assert np.array_equal(image[~missing], face[~missing])
    return _mean_psnr([image[missing] for image in images], [face[missing] for face in faces])


def _restore_sheets(local: LocalEndpoints, faces: Images, sheets: Path) -> None:
    size = local.model.config.shape.height
    rows: list[Images] = [faces]
    for mask in _masks(size).values():
        erased = [_erase(face, mask) for face in faces]
        rows += [erased, local.restore(erased, mask, task="inpaint", steps=50)]
    _save_sheet(rows, sheets / "inpaint.png")
    rows = []
    for factor in (2, 4):
        small = [_degrade(SuperResolution(factor, local.model.config.shape), face) for face in faces]
        rows += [[resized(each, size, way) for each in small] for way in ("nearest", "bicubic")]
        rows.append(local.restore(small, task="superres", factor=str(factor), steps=50))
    _save_sheet([*rows, faces], sheets / "superres.png")


def measure_interpolation(local: LocalEndpoints, faces: Images, report: Report, sheets: Path) -> None:
    """Measures how well inversion and drawing undo each other, and saves strips between two faces."""
    pairs = list(zip(faces[: 2 * PAIRS : 2], faces[1 : 2 * PAIRS : 2], strict=True))
    found: dict[str, float] = {}
    for steps in (10, 20, 50, 100):
        say(f"round trip of inversion, {steps} steps")
        ends = local.interpolate(pairs, (0, 1), mode="ddim", steps=steps)
        found[str(steps)] = float(np.square((np.array(ends, dtype=np.float64) - np.array(pairs)) / 127.5).mean())
        report.add("round_trip", found)
    rows = [(s, mse, 10 * np.log10(4 / mse)) for s, mse in found.items()]
    show("decode(encode(x)), in [-1, 1]", ("steps", "MSE", "PSNR in dB"), rows)
    shares = [i / 6 for i in range(7)]
    strips = []
    ways: tuple[dict[str, str], ...] = ({"mode": "ddpm", "sampler": "ddpm"}, {"mode": "ddim"})
    made = [local.interpolate(pairs[:2], shares, **way) for way in ways]
    for (a, b), *both in zip(pairs[:2], *made, strict=True):
        strips += [[a, *strip, b] for strip in both]
    _save_sheet(strips, sheets / "interpolate.png")


def _noisy(images: Images, sigma: float) -> list[ImageArray]:
    """Adds white Gaussian noise of `sigma` grey levels, the same each time for each image, and rounds to 8 bits."""
    seeded = (np.random.default_rng(i).normal(0, sigma, image.shape) for i, image in enumerate(images))
    return [np.clip(np.rint(image + z), 0, 255).astype(np.uint8) for image, z in zip(images, seeded, strict=True)]


def _estimates(images: Images) -> list[float]:
    return [estimate_sigma(fit(Image.fromarray(image), shape=Shape.of(len(image), 3)).png) for image in images]


def _degrade(operator: Operator, image: ImageArray) -> ImageArray:
    x = from_levels(torch.from_numpy(image.copy())[None])[0]
    return np.asarray(to_uint8(operator.apply(x)[None])[0])


def _masks(size: int) -> dict[str, ImageArray]:
    """Returns two masks: a rectangle of 3/8 of the side in the middle, and lines 2 pixels thick, every 16 pixels."""
    rectangle, lines = np.zeros((2, size, size), dtype=np.uint8)
    rectangle[size * 5 // 16 : size * 11 // 16, size * 5 // 16 : size * 11 // 16] = 255
    for start in range(size // 8, size, size // 4):
        lines[start : start + 2] = lines[:, start : start + 2] = 255
    return {"rectangle": rectangle, "lines": lines}


def _mean_of_channels(image: ImageArray) -> ImageArray:
    return np.asarray(np.rint(image.mean(axis=-1)), dtype=np.uint8)


def _luma(image: ImageArray) -> ImageArray:
    return np.asarray(Image.fromarray(image).convert("L"))


def _erase(image: ImageArray, mask: ImageArray) -> ImageArray:
    return np.where(mask[..., None] > 0, np.uint8(127), image)


def _mean_psnr(images: Images, truths: Images) -> float:
    return float(np.mean([psnr(image, truth) for image, truth in zip(images, truths, strict=True)]))


def _save_sheet(rows: Sequence[Images], path: Path) -> None:
    """Saves images in rows, each twice as large."""
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    image = Image.fromarray(sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(path, optimize=True)


if __name__ == "__main__":
    typer.run(main)
