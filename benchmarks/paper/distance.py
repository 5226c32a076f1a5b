"""Fig. 12: the code of the Fréchet distance, on covariances that are nearly singular (erratum C14)."""

from __future__ import annotations

import warnings
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import sqrtm

from evaluation.distances import frechet_distance, moments
from evaluation.features import EfficientNetLite0, FeatureArray
from evaluation.plots import save
from training.data.faces import draw_faces

from ..report import show

FEW, DIMS = 200, 64  # images of a set; features that are kept of 1280, for covariances that these images can fill
COUNTS = (8, 16, 24, 32, 48, 64, 80, 100, 150, 200)


def printed(a: FeatureArray, b: FeatureArray) -> complex:
    """Equation 8 as Fig. 12 computes it, with the root as `sqrtm` returns it: unchecked, and complex where it is."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    sigma_a, sigma_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(sigma_a @ sigma_b)
    return complex(np.sum((mean_a - mean_b) ** 2.0) + np.trace(sigma_a + sigma_b - 2.0 * root))


def ours(a: FeatureArray, b: FeatureArray) -> float:
    return frechet_distance(moments(a), moments(b))


class Compared(NamedTuple):
    """Both answers for one pair of sets, and the sum of their variances, which says how large an error is."""

    exact: float
    printed: complex
    variance: float

    @property
    def error(self) -> float:
        return abs(self.printed - self.exact) / self.variance


def compare(a: FeatureArray, b: FeatureArray) -> Compared:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of singular matrices, which this figure is about
        return Compared(ours(a, b), printed(a, b), float(a.var(axis=0).sum() + b.var(axis=0).sum()))


def draw(out: Path) -> None:
    """Compares both on features of drawn faces: two sets, and a set with itself, of a growing number of images."""
    extractor = EfficientNetLite0()
    images = np.stack(list(islice(draw_faces("test", 2 * FEW, 64), 2 * FEW)))
    pooled = np.concatenate([extractor(images[i : i + 25]).pooled for i in range(0, len(images), 25)]).astype(
        np.float64
    )
    a, b = pooled[:FEW, :DIMS], pooled[FEW:, :DIMS]
    two = [compare(a[:count], b[:count]) for count in COUNTS]
    one = [compare(a[:count], a[:count]) for count in COUNTS]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(COUNTS, [each.exact for each in two], "o-", label="A, B: difuso")
    left.plot(COUNTS, [each.printed.real for each in two], "x--", markersize=9, label="A, B: Fig. 12")
    left.set(ylabel="distance", ylim=(0, None))
    right.plot(COUNTS, [each.error for each in two], "x--", color="C1", markersize=9, label="A, B: Fig. 12")
    right.plot(COUNTS, [each.error for each in one], "^:", color="C2", label="A, A: Fig. 12")
    right.set(ylabel="error / Σ variances", yscale="log")
    for axes in (left, right):
        axes.axvline(DIMS + 1, color="grey", linewidth=1)
        axes.set(xlabel=f"N (D = {DIMS})")
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, out)
    wide, other = pooled[:100], pooled[100:200]
    unlike = a[:20] * np.logspace(0, 6, DIMS)
    rows = [("A, B", DIMS, count, found) for count, found in zip(COUNTS, two, strict=True)]
    rows += [("A, A", DIMS, count, found) for count, found in zip(COUNTS, one, strict=True)]
    rows.append(("A, B", wide.shape[1], len(wide), compare(wide, other)))
    rows.append(("A, A", wide.shape[1], len(wide), compare(wide, wide)))
    rows.append(("A, A, each feature times 1 ... 1e6", DIMS, len(unlike), compare(unlike, unlike)))
    heads = ("sets", "D", "N", "difuso", "Fig. 12, real", "imaginary", "error / variances")
    cells = [(*named, it.exact, it.printed.real, it.printed.imag, it.error) for *named, it in rows]
    show("Frechet distance", heads, cells)
