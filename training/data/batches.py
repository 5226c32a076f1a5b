"""The order of the training images: endless, new in each epoch, and the same in a resumed run."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from difuso.model.network_inputs import Column

from .conditions import some_of
from .dataset import Dataset


class Batch(NamedTuple):
    """The images of a batch, or of a process's share of it."""

    pixels: Tensor  # uint8 or uint16, shape (B, H, W, C)
    labels: Tensor | None  # class indices, shape (B,), int64; None for a network without classes
    # the conditions by name; images and maps are uint8, (B, h, w, c)
    columns: Mapping[str, Column] = {}


class Batches:
    """An endless stream of batches, each epoch in a new order that depends only on the seed and the epoch.

    Args:
        batch_size: images in a batch; the rest of an epoch that does not fill a batch is left out.
        seed: seed of the order.
        share: rows of each batch that are yielded.

    Attributes:
        position: number of batches yielded so far; set it to resume an earlier run.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *, seed: int, share: slice = slice(None)) -> None:
        self.dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._share = share
        self._per_epoch = len(dataset.trained) // batch_size
        self.position = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yields this process's share of one batch after another."""
        while True:
            epoch, offset = divmod(self.position, self._per_epoch)
            order = np.random.default_rng((self._seed, epoch)).permutation(self.dataset.trained)
            for batch in range(offset, self._per_epoch):
                rows = order[batch * self._batch_size : (batch + 1) * self._batch_size][self._share]
                self.position += 1
                labels = self.dataset.labels
                yield Batch(
                    pixels=torch.from_numpy(self.dataset.images[rows]),
                    labels=None if labels is None else torch.from_numpy(labels[rows]),
                    columns=some_of(self.dataset.columns, rows),
                )
