"""Features tell images apart, are those of the published networks, and are kept from run to run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difuso.evaluation import features
from difuso.evaluation.errors import EvaluationError
from difuso.evaluation.features import EfficientNetLite0, Features, InceptionV3, extract, read_weights
from difuso.evaluation.image_sets import ImageSet, from_array
from difuso.evaluation.reference import MOST_FILES, kept
from difuso.training.data.faces import draw_face
from difuso.training.data.images import ImageArray
from tests.inception import untrained_weights

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]


def noise(seed: int, count: int, size: int = 32) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def efficientnet() -> EfficientNetLite0:
    pytest.importorskip("timm", reason="EfficientNet-Lite0 comes with the extra evaluate")
    return EfficientNetLite0()


def test_the_extractor_distinguishes_noise_from_faces(efficientnet: EfficientNetLite0) -> None:
    """And a face is nearer to its neighbour in brightness than to another face."""
    face, other = draw_face("test-0", 64), draw_face("test-1", 64)
    brighter = np.minimum(face.astype(np.int64) + 4, 255).astype(np.uint8)
    features = efficientnet(np.stack([face, brighter, other, noise(0, 1, 64)[0]]))
    assert [array.shape for array in features] == [(4, 1280), (4, 14 * 14 * 7), (4, 1000)]
    for rows in (features.pooled, features.spatial):
        to_brighter, to_other, to_noise = np.linalg.norm(rows[1:] - rows[0], axis=1)
        assert to_brighter < min(to_other, to_noise)
    assert np.linalg.norm(features.pooled[2] - features.pooled[0]) < np.linalg.norm(
        features.pooled[3] - features.pooled[0]
    )


def test_a_picture_has_the_same_features_in_any_batch(efficientnet: EfficientNetLite0) -> None:
    """And progress is reported batch by batch."""
    images, reported = noise(1, 35), list[float]()
    together = extract(from_array("noise", images), efficientnet, reported.append)
    assert reported == pytest.approx([32 / 35, 1])
    alone = efficientnet(images[33:34])
    for whole, part in zip(together, alone, strict=True):
        assert whole.dtype == np.float32
        assert whole[33] == pytest.approx(part[0], abs=1e-4)


def test_a_set_without_images_is_refused(efficientnet: EfficientNetLite0) -> None:
    with pytest.raises(EvaluationError, match="nothing holds no images"):
        extract(from_array("nothing", noise(0, 0)), efficientnet)


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    return untrained_weights()


def test_inception_gives_what_adm_s_evaluator_takes(weights: dict[str, Any]) -> None:
    """pool_3, seven channels of mixed_6/conv at 17x17 places after the ReLU, and logits without their bias."""
    extractor = InceptionV3(weights)
    images = noise(2, 2)
    features = extractor(images)
    assert [array.shape for array in features] == [(2, 2048), (2, 2023), (2, 1008)]
    assert all(np.isfinite(array).all() for array in features)
    assert features.logits == pytest.approx(features.pooled @ weights["fc.weight"].numpy().T, rel=1e-3, abs=1e-5)
    assert features.spatial.min() >= 0
    assert not np.array_equal(features.pooled[0], features.pooled[1])

    seen = []
    branch = extractor._network.Mixed_6d.branch1x1
    branch.register_forward_hook(lambda layer, inputs, out: seen.append((inputs[0], out)))
    extractor(images)
    (inside, out), = seen  # fmt: skip
    assert inside.shape == (2, 768, 17, 17)
    by_hand = torch.relu(branch.bn(branch.conv(inside)))[:, :7].permute(0, 2, 3, 1).reshape(2, -1)
    assert features.spatial == pytest.approx(by_hand.numpy(), abs=1e-6)
    assert out.shape == (2, 192, 17, 17)


def test_weights_of_another_network_are_refused(weights: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="not the weights of torch-fidelity's InceptionV3"):
        InceptionV3({key: value for key, value in weights.items() if not key.startswith("fc.")})


def test_only_the_known_file_of_weights_is_read_and_none_is_fetched_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    path = tmp_path / "weights.pth"
    with pytest.raises(EvaluationError, match=r"weights.pth: No such file or directory; give the weights"):
        read_weights(str(path))
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(EvaluationError, match="its SHA-256 differs"):
        read_weights(str(path))
    monkeypatch.setattr(features, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    assert read_weights(str(path))["a"].tolist() == [1, 1]


def test_weights_are_fetched_once_and_checked_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "published.pth"
    torch.save({"a": torch.ones(2)}, source)
    monkeypatch.setattr(features, "SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    monkeypatch.setattr(features, "URL", source.as_uri())  # torch.hub's download reads files too
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert read_weights("download")["a"].tolist() == [1, 1]
    kept = tmp_path / "hub" / "checkpoints" / "published.pth"
    assert kept.read_bytes() == source.read_bytes()
    source.unlink()
    assert read_weights("download")["a"].tolist() == [1, 1]
    kept.unlink()
    with pytest.raises(EvaluationError, match="could not be fetched"):
        read_weights("download")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where features are kept."""
    monkeypatch.setattr("difuso.evaluation.reference.user_cache_path", lambda name, **options: tmp_path)
    return tmp_path / "features"


def images(seed: int) -> ImageSet:
    return from_array("any", np.random.default_rng(seed).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8))


class Computing:
    """Computes features, each time others, and counts."""

    count = 0

    def __call__(self) -> Features:
        self.count += 1
        return Features(*(np.full((40, size), self.count, np.float32) for size in (3, 2, 1)))


def test_they_are_computed_once(folder: Path) -> None:
    compute = Computing()
    first, again = (kept(images(0), "Plain", compute) for _ in range(2))
    assert compute.count == 1
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
        assert other.dtype == np.float32


def test_other_images_and_other_extractors_have_their_own(folder: Path) -> None:
    compute = Computing()
    for seed, extractor in ((0, "Plain"), (1, "Plain"), (0, "Other")):
        kept(images(seed), extractor, compute)
    assert compute.count == len(list(folder.iterdir())) == 3


def test_a_damaged_file_is_computed_again(folder: Path) -> None:
    compute = Computing()
    kept(images(0), "Plain", compute)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert kept(images(0), "Plain", compute).pooled[0, 0] == 2
    assert kept(images(0), "Plain", compute).pooled[0, 0] == 2


def test_the_longest_unused_go(folder: Path) -> None:
    compute = Computing()
    kept(images(0), "Plain", compute)
    (first,) = folder.iterdir()
    for seed in range(1, MOST_FILES):
        kept(images(seed), "Plain", compute)
    for age, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, (age, age))
    kept(images(0), "Plain", compute)  # used, so another goes
    kept(images(MOST_FILES), "Plain", compute)
    assert len(list(folder.iterdir())) == MOST_FILES
    assert first.exists()
