"""The kernel distance of a network in training to the images that it is trained with."""

from collections.abc import Callable

import numpy as np
import torch

from training.data.images import ImageArray

from .distances import kernel_distance
from .features import EfficientNetLite0, extract
from .image_sets import from_array

REAL = 1000  # images that drawn ones are compared with


def kid_from(real: ImageArray, *, device: torch.device | str = "cpu") -> Callable[[ImageArray], float]:
    """Returns a function from drawn images to KID-EfficientNet-Lite0-TF x 1000.

    `real` are images of the same kind, uint8, shape (N, H, W, C); a thousand of them are looked at, once.
    """
    extractor = EfficientNetLite0(device)
    chosen = np.sort(np.random.default_rng(0).permutation(len(real))[:REAL])
    reference = extract(from_array("real images", real[chosen]), extractor).pooled

    def distance(drawn: ImageArray) -> float:
        return 1000 * kernel_distance(extract(from_array("drawn images", drawn), extractor).pooled, reference).value

    return distance
