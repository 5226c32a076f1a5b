"""The figures of a set of pictures: in one piece, by their names, and as ADM's evaluator prints them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.distances import inception_score, kernel_distance
from evaluation.features import Features
from evaluation.image_sets import EvaluationError, drawn, from_array, from_npz
from evaluation.inception import InceptionV3, read_weights
from evaluation.precision_recall import precision_recall
from evaluation.quality import Quality, evaluate, read_reference
from evaluation.tables import cells, figures, headings, notes, title, to_json, to_markdown
from training.images import ImageArray

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


def pictures(seed: int, count: int, low: int = 0) -> ImageArray:
    return np.random.default_rng(seed).integers(low, 256, (count, 4, 4, 3), dtype=np.uint8)


def test_every_figure_is_that_of_its_own_function() -> None:
    reference = read_reference(from_array("real", pictures(0, 40)), Plain())
    made = pictures(1, 30, low=60)
    shares: list[float] = []
    quality = evaluate(
        drawn("made", lambda first, count: made[first : first + count], 30),
        reference,
        Plain(),
        seconds_per_image=lambda: 1.5,
        tell=shares.append,
    )
    real, features = Plain()(pictures(0, 40)), Plain()(made)
    assert shares == [1.0]
    assert (quality.images, quality.reference_images, quality.seconds_per_image) == (30, 40, 1.5)
    assert quality.inception_score == inception_score(features.logits)
    assert quality.neighbours == precision_recall(features.pooled, real.pooled, k=3)
    assert quality.kid == kernel_distance(features.pooled, real.pooled)
    for distance, a, b in (
        (quality.frechet, features.pooled, real.pooled),
        (quality.spatial_frechet, features.spatial, real.spatial),
    ):
        covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        overlap = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).clip(0)).sum().real
        expected = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + sum(map(np.trace, covariances)) - 2 * overlap
        assert distance == pytest.approx(expected, rel=1e-4)


def test_the_moments_in_a_reference_file_count_for_inception_alone(tmp_path: Path) -> None:
    """They are of the whole training set, and of Inception's features."""
    path = tmp_path / "reference.npz"
    whole = Plain()(pictures(2, 500))
    moments: dict[str, Any] = {
        "mu": whole.pooled.mean(axis=0),
        "sigma": np.cov(whole.pooled, rowvar=False),
        "mu_s": whole.spatial.mean(axis=0),
        "sigma_s": np.cov(whole.spatial, rowvar=False),
    }
    np.savez(path, pictures(0, 40), **moments)
    made = from_array("made", pictures(2, 500))

    def figure(extractor: Plain) -> Quality:
        return evaluate(made, read_reference(from_npz(path), extractor, statistics=path), extractor)

    by_moments, by_pictures = figure(PlainInception()), figure(Plain())
    assert by_moments.frechet == pytest.approx(0, abs=1e-6)
    assert by_moments.spatial_frechet == pytest.approx(0, abs=1e-6)
    assert by_pictures.frechet > 1e-5
    assert by_moments.neighbours == by_pictures.neighbours
    assert "moments from the reference's file" in figures(by_moments)[0].protocol
    assert "40 of the reference" in figures(by_pictures)[0].protocol
    assert all("40 of the reference" in figures(quality)[3].protocol for quality in (by_moments, by_pictures))

    np.savez(path, pictures(0, 40))
    assert figure(PlainInception()).frechet == pytest.approx(by_pictures.frechet)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(EvaluationError, match="real holds 23 pictures, of which nothing can be said"):
        read_reference(from_array("real", pictures(0, 23)), Plain())


def test_pictures_of_another_size_than_the_reference_are_refused() -> None:
    """Every figure depends on who resized what, and how."""
    reference = read_reference(from_array("real", pictures(0, 40)), Plain())
    with pytest.raises(EvaluationError, match="made holds pictures of 8x6 and the reference of 4x4"):
        evaluate(from_array("made", np.zeros((30, 6, 8, 3), np.uint8)), reference, Plain())


def quality(extractor: Plain) -> Quality:
    reference = read_reference(from_array("real", pictures(0, 40)), extractor)
    return evaluate(from_array("made", pictures(1, 30)), reference, extractor)


def test_only_figures_of_inception_are_called_fid() -> None:
    official = ["FID", "sFID", "IS", "Precision", "Recall", "KID"]
    assert [figure.name for figure in figures(quality(PlainInception()))] == official
    others = ["FD-Plain", "sFD-Plain", "IS-Plain", "Precision-Plain", "Recall-Plain", "KID-Plain"]
    assert [figure.name for figure in figures(quality(Plain()))] == others
    assert "FID" not in "".join(headings(quality(Plain())))


def test_the_table_has_the_layout_of_publications_with_the_protocol_beside_it() -> None:
    one = quality(PlainInception())
    rows = [replace(one, name="a", seconds_per_image=0.5), replace(one, name="b")]
    lines = to_markdown(rows).splitlines()
    assert lines[0] == "**Features of Inception, against real**"
    assert lines[2] == "|  | pictures | FID ↓ | sFID ↓ | IS ↑ | Precision ↑ | Recall ↑ | KID x 1000 ↓ | s/picture |"
    assert lines[4].startswith(f"| a | 30 | {one.frechet:.2f} | {one.spatial_frechet:.2f} | ")
    assert lines[4].endswith("| 0.5 |")
    assert lines[5].startswith("| b | 30 |")
    assert "- Precision: 3 pooled features, k = 3, 30 pictures, 40 of the reference." in lines
    assert cells(rows[0])[0] == "a"
    assert title(rows) in lines[0]

    (content, _) = to_json(rows)
    assert (content["name"], content["images"], content["seconds_per_image"]) == ("a", 30, 0.5)
    assert content["figures"]["Recall"]["value"] == one.neighbours.recall
    assert content["figures"]["KID"]["spread"] == one.kid.standard_error
    assert all(figure["protocol"] for figure in content["figures"].values())


def test_notes_say_what_may_not_be_compared() -> None:
    few = quality(Plain())
    enough = replace(few, images=50_000, dims=3, extractor="Inception")
    assert any("None of these is an FID" in note for note in notes([few]))
    assert any("Published figures are of 50000 pictures" in note for note in notes([few]))
    assert not any("fewer" in note or "None of these" in note for note in notes([enough]))
    assert any("go by KID" in note for note in notes([replace(few, images=2)]))
    both = notes([few, replace(few, images=50_000)])
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
    """50,000 pictures of ADM with upsampling at 256x256; the figures are in guided-diffusion's evaluations/README."""
    reference_file, samples, weights = (Path(os.environ[name]) for name in ADM)
    device = os.environ.get("DIFUSO_DEVICE", "cpu")
    extractor = InceptionV3(read_weights(str(weights)), device)
    reference = read_reference(from_npz(reference_file), extractor, statistics=reference_file)
    found = evaluate(from_npz(samples), reference, extractor)
    assert found.images == 50_000
    assert found.frechet == pytest.approx(3.9426, abs=0.01)
    assert found.spatial_frechet == pytest.approx(6.1404, abs=0.01)
    assert found.inception_score.mean == pytest.approx(215.84, abs=0.5)
    assert found.neighbours == pytest.approx((0.8265, 0.5309), abs=0.004)
