"""The figures of a set of images: in one piece, by their names, and as ADM's evaluator prints them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difuso.evaluation.distances import (
    density_coverage,
    frechet_without_bias,
    inception_score,
    kernel_distance,
    precision_recall,
)
from difuso.evaluation.errors import EvaluationError
from difuso.evaluation.features import Features, InceptionV3, read_weights
from difuso.evaluation.figures import (
    Measured,
    Quality,
    evaluate,
    notes,
    to_json,
    to_markdown,
)
from difuso.evaluation.image_sets import from_array, from_path
from difuso.evaluation.reference import read_reference
from difuso.training.data.images import ImageArray

pytestmark = pytest.mark.usefixtures("one_thread")


class Plain:
    """An extractor that anyone can follow: mean colours, some pixels, and the colours as logits."""

    name = "Plain"

    def __call__(self, images: ImageArray) -> Features:
        pixels = images.astype(np.float32) / 255
        return Features(pixels.mean(axis=(1, 2)), pixels[:, 0, :2].reshape(len(images), -1), 4 * pixels[:, 0, 0])


class PlainInception(Plain):
    """It stands for Inception where only names and the file's moments matter."""

    name = "Inception"


def images_of(seed: int, count: int, low: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(low, 256, (count, 4, 4, 3), dtype=np.uint8)


def test_every_figure_is_that_of_its_own_function() -> None:
    reference = read_reference(from_array("real", images_of(0, 40)), Plain())
    made = images_of(1, 30, low=60)
    shares: list[float] = []
    quality = evaluate(
        from_array("made", made),
        reference,
        Plain(),
        shares.append,
    )
    real, features = Plain()(images_of(0, 40)), Plain()(made)
    assert shares == [1.0]
    assert (quality.images, quality.dims) == (30, 6)
    assert quality.figures["IS"].value == inception_score(features.logits).value
    near = precision_recall(features.pooled, real.pooled, k=3)
    assert (quality.figures["Precision"].value, quality.figures["Recall"].value) == near
    assert "k = 3, 30 images, 40 of the reference" in quality.figures["Recall"].protocol
    spread = density_coverage(features.pooled, real.pooled, k=5)
    assert (quality.figures["Density"].value, quality.figures["Coverage"].value) == spread
    assert "k = 5, 30 images, 40 of the reference" in quality.figures["Coverage"].protocol
    assert quality.figures["FD∞"].value == frechet_without_bias(features.pooled, real.pooled)
    kernel = kernel_distance(features.pooled, real.pooled)
    assert (quality.figures["KID"].value, quality.figures["KID"].spread) == kernel
    for key, a, b in (("FD", features.pooled, real.pooled), ("sFD", features.spatial, real.spatial)):
        covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        overlap = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).clip(0)).sum().real
        expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + sum(map(np.trace, covariances)) - 2 * overlap
        assert quality.figures[key].value == pytest.approx(expected, rel=1e-4)


def test_the_moments_in_a_reference_file_count_for_inception_alone(tmp_path: Path) -> None:
    """They are of the whole training set, and of Inception's features."""
    path = tmp_path / "reference.npz"
    whole = Plain()(images_of(2, 500))
    moments: dict[str, Any] = {
        "mu": whole.pooled.mean(axis=0),
        "sigma": np.cov(whole.pooled, rowvar=False),
        "mu_s": whole.spatial.mean(axis=0),
        "sigma_s": np.cov(whole.spatial, rowvar=False),
    }
    np.savez(path, images_of(0, 40), **moments)
    made = from_array("made", images_of(2, 500))

    def measured(extractor: Plain) -> Mapping[str, Measured]:
        return evaluate(made, read_reference(from_path(path), extractor, statistics=path), extractor).figures

    by_moments, by_images = measured(PlainInception()), measured(Plain())
    assert by_moments["FD"].value == pytest.approx(0, abs=1e-6)
    assert by_moments["sFD"].value == pytest.approx(0, abs=1e-6)
    assert by_images["FD"].value > 1e-5
    for key in ("Precision", "Recall", "Density", "Coverage", "KID"):
        assert by_moments[key] == by_images[key]
        assert "40 of the reference" in by_moments[key].protocol
    assert "moments from the reference's file" in by_moments["FD"].protocol
    assert "40 of the reference" in by_images["FD"].protocol

    np.savez(path, images_of(0, 40))
    assert measured(PlainInception())["FD"].value == pytest.approx(by_images["FD"].value)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(EvaluationError, match="real holds 23 images: at least 24 are needed"):
        read_reference(from_array("real", images_of(0, 23)), Plain())


def test_images_of_another_size_than_the_reference_are_refused() -> None:
    """Every figure depends on who resized what, and how."""
    reference = read_reference(from_array("real", images_of(0, 40)), Plain())
    with pytest.raises(EvaluationError, match="made holds images of 8x6 and the reference of 4x4"):
        evaluate(from_array("made", np.zeros((30, 6, 8, 3), np.uint8)), reference, Plain())


def quality(extractor: Plain) -> Quality:
    reference = read_reference(from_array("real", images_of(0, 40)), extractor)
    return evaluate(from_array("made", images_of(1, 30)), reference, extractor)


def test_only_figures_of_inception_are_called_fid() -> None:
    official = ["FID", "FID∞", "sFID", "IS", "Precision", "Recall", "Density", "Coverage", "KID"]
    assert list(quality(PlainInception()).named) == official
    others = ["FD", "FD∞", "sFD", "IS", "Precision", "Recall", "Density", "Coverage", "KID"]
    assert list(quality(Plain()).named) == [f"{key}-Plain" for key in others]
    assert "FID ↓" not in to_markdown([quality(Plain())])


def test_the_table_has_the_layout_of_publications_with_the_protocol_beside_it() -> None:
    one = quality(PlainInception())
    rows = [replace(one, name="a"), replace(one, name="b")]
    lines = to_markdown(rows).splitlines()
    assert lines[0] == "**Features of Inception, against real**"
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:6]]
    figures = "FID ↓|FID∞ ↓|sFID ↓|IS ↑|Precision ↑|Recall ↑|Density ↑|Coverage ↑|KID x 1000 ↓"
    assert table[0] == ["", "images", *figures.split("|")]
    assert table[2][:4] == ["a", "30", f"{one.figures['FD'].value:.2f}", f"{one.figures['FD∞'].value:.2f}"]
    assert table[3][:2] == ["b", "30"]
    assert len(set(map(len, lines[2:6]))) == 1
    assert "- Precision: 3 pooled features, k = 3, 30 images, 40 of the reference." in lines
    odd = to_markdown([replace(one, name="*mine* _a_|[1]_b.npz <b>")]).splitlines()[4]
    assert odd.startswith(r"| \*mine\* \_a\_\|\[1\]\_b.npz \<b\> |")

    (content, _) = to_json(rows)
    assert (content["name"], content["images"]) == ("a", 30)
    assert content["figures"]["Recall"]["value"] == one.figures["Recall"].value
    assert content["figures"]["KID"]["spread"] == one.figures["KID"].spread
    assert all(figure["protocol"] for figure in content["figures"].values())


def test_notes_say_what_may_not_be_compared() -> None:
    few = quality(Plain())
    enough = replace(few, images=50_000, dims=3, extractor="Inception")
    assert any("None of these is an FID" in note for note in notes([few]))
    assert any("Published figures are of 50000 images" in note for note in notes([few]))
    assert not any("fewer" in note or "None of these" in note for note in notes([enough]))
    assert any("go by KID" in note for note in notes([replace(few, images=2)]))
    reference = read_reference(from_array("real", images_of(0, 40)), Plain())
    both = notes([few, evaluate(from_array("more", images_of(1, 31)), reference, Plain())])
    assert sum("FD-Plain" in note and note.startswith("FD") for note in both) == 2  # each count has its protocol


ADM = ("DIFUSO_TEST_ADM_REFERENCE", "DIFUSO_TEST_ADM_SAMPLES", "DIFUSO_TEST_INCEPTION_WEIGHTS")


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(
    not all(name in os.environ for name in ADM),
    reason="ADM's published files are not here: name VIRTUAL_imagenet256_labeled.npz, "
    f"admnet_guided_upsampled_imagenet256.npz and the weights of Inception in {', '.join(ADM)}",
)
def test_adm_s_evaluator_prints_these_figures_of_its_published_samples() -> None:
    """50,000 images of ADM with upsampling at 256x256; the figures are in guided-diffusion's evaluations/README."""
    reference_file, samples, weights = (Path(os.environ[name]) for name in ADM)
    device = os.environ.get("DIFUSO_DEVICE", "cpu")
    extractor = InceptionV3(read_weights(str(weights)), device)
    reference = read_reference(from_path(reference_file), extractor, statistics=reference_file)
    found = evaluate(from_path(samples), reference, extractor)
    assert found.images == 50_000
    assert found.figures["FD"].value == pytest.approx(3.9426, abs=0.01)
    assert found.figures["sFD"].value == pytest.approx(6.1404, abs=0.01)
    assert found.figures["IS"].value == pytest.approx(215.84, abs=0.5)
    near = found.figures["Precision"].value, found.figures["Recall"].value
    assert near == pytest.approx((0.8265, 0.5309), abs=0.004)
