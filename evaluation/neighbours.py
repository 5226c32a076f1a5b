"""A model's images and the training images nearest to them, to find out whether it has memorised any."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from difuso.training.data.batches import turned
from difuso.training.data.images import ImageArray
from difuso.training.data.nearest import CHANCE, COMPARED, IndexArray, Nearest, scores, threshold

from .errors import EvaluationError
from .features import Extractor, FeatureArray, extract
from .image_sets import from_array

SHOWN = 5  # of these, those of which the images are kept
BLOCK = 512  # training images compared at a time
SAME = 0.25  # grey levels: float32 shows no smaller differences
PLANTED = 10.0  # grey levels: standard deviation of the noise in planted copies

PIXELS, FEATURES = "pixels", "features"


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Distances between images and the training images nearest to them, and their `scores`."""

    order: IndexArray  # indices of the model's images by score, lowest first, shape (N,)
    scores: FeatureArray  # scores of the images of `order`, shape (N,)
    # distances, indices: distances and indices of the training images nearest to each image of `order`, nearest first,
    # each of shape (N, COMPARED)
    distances: FeatureArray
    indices: IndexArray
    # held_out_scores, held_out_distances: scores of held-out images and distances to their nearest, shape (M,)
    held_out_scores: FeatureArray
    held_out_distances: FeatureArray
    # scores of copies of the held-out images with noise of PLANTED, had these been trained on, shape (M,)
    planted: FeatureArray

    @property
    def threshold(self) -> float:
        """The score that CHANCE of the held-out images fall below."""
        return threshold(self.held_out_scores)

    @property
    def share_below(self) -> float:
        """Share of the images below the threshold; CHANCE if none is a copy."""
        return float((self.scores < self.threshold).mean())

    @property
    def chance_error(self) -> float:
        """Standard deviation of `share_below` if none is a copy: both sets are samples, and the threshold is of one."""
        return float(np.sqrt(CHANCE * (1 - CHANCE) * (1 / len(self.order) + 1 / len(self.held_out_scores))))

    @property
    def below_all(self) -> int:
        """Number of the images with a lower score than every held-out one; N / (M + 1) if none is a copy."""
        return int((self.scores < self.held_out_scores.min()).sum())

    @property
    def found(self) -> float:
        """Share of the planted copies below the threshold."""
        return float((self.planted < self.threshold).mean())


@dataclass(frozen=True, eq=False)
class Search:
    """The result of a search through all training images."""

    by: Mapping[str, Neighbours]  # neighbours by PIXELS, in root mean squares of grey levels, and by FEATURES
    # the training images among the SHOWN nearest of an image, by their indices, each of shape (H, W, 3)
    training: Mapping[int, ImageArray]
    searched: int  # number of training images


def find_neighbours(
    images: ImageArray,
    held_out: ImageArray,
    training: Iterable[ImageArray],
    extractor: Extractor,
    *,
    symmetries: Sequence[int] = (0,),
) -> Search:
    """Compares a model's images, and real images that were not trained on, with every training image.

    The images are uint8, of shapes (N, H, W, 3), (M, H, W, 3) and, each training image, (H, W, 3). Of these no more
    than BLOCK are held at a time. Of the symmetries in which training showed an image the nearest counts.

    Raises EvaluationError if there are fewer training images than are compared, they have another size, or so many of
    the held-out images are among them that these say nothing about chance.
    """
    several = np.concatenate([images, held_out, _planted(held_out)])
    views = [_seen(several, number) for number in symmetries]
    measures: dict[str, Callable[[ImageArray], FeatureArray]] = {
        PIXELS: _in_pixels,
        FEATURES: lambda some: extract(from_array("training images", some), extractor).pooled,
    }
    nearest = {name: Nearest([vectors(view) for view in views]) for name, vectors in measures.items()}
    kept: dict[int, ImageArray] = {}
    searched = 0
    for block in _blocks(training):
        if block.shape[1:] != images.shape[1:]:
            height, width, _ = block.shape[1:]
            raise EvaluationError(f"the training images are {width}x{height}, and the others are not: give others")
        for name, each in nearest.items():
            each.look(searched, measures[name](block))
        wanted = np.unique([each.indices[: len(images), :SHOWN] for each in nearest.values()])
        kept = {int(i): kept[i] if i < searched else block[i - searched] for i in wanted}
        searched += len(block)
    if searched < COMPARED:
        raise EvaluationError(f"there are {searched} training images, and {COMPARED} at least are compared")
    found = {name: _neighbours(each, len(images), len(held_out)) for name, each in nearest.items()}
    if np.quantile(found[PIXELS].held_out_distances, CHANCE) < SAME:
        raise EvaluationError("the held-out images are training images: give others, or reserve some (data.reserved)")
    return Search(found, kept, searched)


def _neighbours(nearest: Nearest, count: int, held_out: int) -> Neighbours:
    """Judges the distances of `count` images of a model, then of `held_out` images, then of their copies."""
    distances, indices = nearest.distances, nearest.indices[:count]
    made, new, copies = np.split(distances, [count, count + held_out])
    order = scores(made).argsort(kind="stable")
    # The copies are searched as if their originals were training images, too.
    originals, planted = nearest.views[0][count : count + held_out], nearest.views[0][count + held_out :]
    own = np.linalg.norm(planted - originals, axis=1)[:, None]
    chance = np.sort(np.hstack([own, copies]), axis=1)[:, :COMPARED]
    return Neighbours(order, scores(made)[order], made[order], indices[order], scores(new), new[:, 0], scores(chance))


def _planted(images: ImageArray) -> ImageArray:
    """Returns copies with noise, always the same."""
    noise = np.random.default_rng(0).normal(scale=PLANTED, size=images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def _in_pixels(images: ImageArray) -> FeatureArray:
    """Makes vectors whose distance is the root mean square of the difference in grey levels."""
    flat = images.reshape(len(images), -1).astype(np.float32) - 127.5  # centred: float32 rounds small numbers less
    return flat / np.float32(np.sqrt(flat.shape[1]))


def _seen(images: ImageArray, symmetry: int) -> ImageArray:
    """Returns images of shape (N, H, W, 3) in one symmetry."""
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2)
    seen = turned(channels_first, torch.full((len(images),), symmetry))
    return np.ascontiguousarray(seen.permute(0, 2, 3, 1).numpy())


def _blocks(images: Iterable[ImageArray]) -> Iterator[ImageArray]:
    remaining = iter(images)
    while block := list(islice(remaining, BLOCK)):
        yield np.stack(block)
