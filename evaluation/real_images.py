"""Real images to compare a model with: a folder, or the images of a recipe."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import track

from difuso.model.shape import Shape
from difuso.training import recipe_names
from difuso.training.data.faces import draw_faces
from difuso.training.data.images import ImageArray, decode, in_bits, size_of
from difuso.training.data.source_images import open_source
from difuso.training.recipe import Data
from difuso.training.recipe_reading import load_recipe

from .errors import EvaluationError
from .image_sets import shuffled_files, unreadable

FACES = "faces"  # the source of drawn faces
DRAWN = 1000  # images of a model, or drawn faces, if the user gives no number


def real_images(
    data: str,
    count: int | None,
    *,
    shape: Shape,
    split: str = "test",
    networks: Collection[str] = (),
) -> ImageArray:
    """Reads real images as a model would be trained on them, uint8 of shape (N, H, W, C), in random order.

    Args:
        data: a folder of images that are at least as large; or a recipe, which stands for its images.
        count: largest number of images; None takes all, or DRAWN drawn faces.
        split: see `Data`; images of `test` were never trained on. Sets without halves are taken whole.
        networks: the modules of other packages whose sources a recipe may name.

    Raises EvaluationError or RecipeError if there is no such recipe or folder, it has no images, or one does not fit.
    """
    if not names_recipe(data):
        return np.stack(list(_folder_images(Path(data), count, shape)))
    of_recipe = replace(load_recipe(data, networks=networks).data, split=split)
    if of_recipe.source == FACES:
        if shape.channels != 3 or not shape.is_square:
            raise EvaluationError("the drawn faces are RGB squares and this model's images are not: give a folder")
        return np.stack(list(draw_faces(split, count or DRAWN, shape.height)))
    images = list(_readable(of_recipe, shape))
    if not images:
        raise EvaluationError(f"no image of {of_recipe.path} can be read")
    order = np.random.default_rng(0).permutation(len(images))[:count]
    return np.stack([images[i] for i in order])


def training_images(data: str, *, shape: Shape, networks: Collection[str] = ()) -> Iterator[ImageArray]:
    """Yields every image that training on `data` sees, uint8 of shape (H, W, C), one after another.

    The arguments and errors are those of `real_images`.
    """
    if not names_recipe(data):
        return _folder_images(Path(data), None, shape)
    return _readable(load_recipe(data, networks=networks).data, shape)


def names_recipe(data: str) -> bool:
    """Returns whether this is the name or the file of a recipe; a folder of the same name comes first."""
    return data.endswith(".toml") or (data in recipe_names() and not Path(data).is_dir())


def _folder_images(folder: Path, count: int | None, shape: Shape) -> Iterator[ImageArray]:
    for path in track(shuffled_files(folder)[:count], description="reading images"):
        try:
            height, width = size_of(path)
            pixels = decode(path, shape)
        except Exception as error:  # Pillow raises many kinds of errors
            raise unreadable(path, error) from error
        if height < shape.height or width < shape.width:  # enlarged images are smooth, and too easy to predict
            raise EvaluationError(f"{path} is {height}x{width}, smaller than the model's images of {shape.in_pixels}")
        yield pixels


def _readable(data: Data, shape: Shape) -> Iterator[ImageArray]:
    """Yields the images that can be read; training leaves the others out too."""
    source = open_source(data, shape)
    items = track(source.items, description="reading images", total=source.total)
    return (in_bits(item.image, 8) for item in items if item.image is not None)
