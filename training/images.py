"""Training images: all of them in memory, as one uint8 array, in an order that a resumed run can find again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.progress import track
from torch import Tensor

from model.images import from_uint8

from .faces import draw_faces
from .recipe import Recipe, RecipeError

log = logging.getLogger(__name__)

ImageArray = np.ndarray[Any, np.dtype[np.uint8]]
SUFFIXES = {".png", ".jpg", ".jpeg"}


def load_images(recipe: Recipe, cache: Path) -> ImageArray:
    """All images of a recipe, uint8 of shape (N, H, W, C).

    Args:
        recipe: says where they come from.
        cache: folder for drawn images, so that a resumed run need not draw them again.

    Raises:
        RecipeError: if there are fewer than fill one batch.
    """
    if recipe.data.source == "faces":
        images = _cached_faces(recipe.data.count, recipe.image_size, cache)
    else:
        images, unreadable = read_folder(Path(recipe.data.path), recipe.image_size, recipe.channels)
        for path, reason in unreadable:
            log.warning("left out %s: %s", path, reason)
    if len(images) < recipe.batch_size:
        raise RecipeError(f"{len(images)} images do not fill one batch of {recipe.batch_size}")
    return images


def _cached_faces(count: int, size: int, cache: Path) -> ImageArray:
    path = cache / f"faces-{size}-{count}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        faces = track(draw_faces("train", count, size), description="drawing faces", total=count)
        temporary = path.with_suffix(".tmp.npy")
        np.save(temporary, np.stack(list(faces)))
        temporary.replace(path)
    images: ImageArray = np.load(path)
    return images


def read_folder(folder: Path, size: int, channels: int) -> tuple[ImageArray, list[tuple[Path, str]]]:
    """Every picture below a folder; see `list_images` and `read_images`."""
    return read_images(list_images(folder), size, channels)


def list_images(folder: Path) -> list[Path]:
    """Every PNG and JPEG below a folder, in the order of their names.

    Raises:
        RecipeError: if the folder does not exist or holds no images.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise RecipeError(f"there are no PNG or JPEG files below {folder}")
    return paths


def read_images(paths: Sequence[Path], size: int, channels: int) -> tuple[ImageArray, list[tuple[Path, str]]]:
    """The files centre-cropped to a square and resized, uint8 of shape (N, H, W, C), and those that cannot be read."""
    images, unreadable = [], []
    for path in track(paths, description="reading images"):
        try:
            images.append(_read_image(path, size, "L" if channels == 1 else "RGB"))
        except Exception as error:  # Pillow raises many kinds; one bad file must not end a run
            unreadable.append((path, type(error).__name__))
    stacked = np.stack(images) if images else np.empty((0, size, size, channels), np.uint8)
    return stacked.reshape(len(images), size, size, channels), unreadable


def _read_image(path: Path, size: int, mode: str) -> ImageArray:
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip to 255 instead of scaling
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(ImageOps.fit(image.convert(mode), (size, size), Image.Resampling.LANCZOS))


class Batches:
    """An endless stream of batches, each epoch in a new order that depends only on the seed and the epoch.

    Args:
        images: uint8, shape (N, H, W, C).
        batch_size: the rest of an epoch that does not fill a batch is left out.
        seed: of the order.
        flip: mirror half of the images, drawn from torch's global generator.

    Attributes:
        position: batches handed out so far; set it to go on where an earlier run stopped.
    """

    def __init__(self, images: ImageArray, batch_size: int, *, seed: int, flip: bool = False) -> None:
        self._images = torch.from_numpy(images)
        self._batch_size = batch_size
        self._seed = seed
        self._flip = flip
        self._per_epoch = len(images) // batch_size
        self.position = 0

    def __iter__(self) -> Iterator[Tensor]:
        """Yields images in [-1, 1], shape (batch_size, C, H, W)."""
        while True:
            epoch, offset = divmod(self.position, self._per_epoch)
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self._images))
            for batch in range(offset, self._per_epoch):
                chosen = order[batch * self._batch_size : (batch + 1) * self._batch_size]
                self.position += 1
                images = from_uint8(self._images[torch.from_numpy(chosen)])
                if self._flip:
                    mirrored = torch.rand(len(images)) < 0.5
                    images[mirrored] = images[mirrored].flip(-1)
                yield images
