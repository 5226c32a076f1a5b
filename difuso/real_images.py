"""Where pictures to be measured come from, as the command line names them."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
from PIL import Image

from app.errors import InvalidRequest
from app.parameters import choose_model
from evaluation.features import EfficientNetLite0, Extractor
from evaluation.image_sets import Pictures, from_array, from_folder, from_npz
from evaluation.inception import InceptionV3, read_weights
from jobs.catalog import ModelInfo, read_catalog
from training.errors import RecipeError
from training.faces import draw_faces
from training.images import ImageArray, list_images, read_images
from training.recipe import load_recipe, recipe_names
from training.sources import SOURCES
from worker.runner import pick_device

from .errors import UserError

FACES = "faces"


def find_model(name: str | None, models_dir: Path) -> ModelInfo:
    """The checkpoint of this name; without one the first.

    Raises:
        UserError: if there is none.
    """
    try:
        return choose_model(name, read_catalog(models_dir))
    except InvalidRequest as error:
        raise UserError(f"{error.name}: {error.detail}") from error


def pick_extractor(inception_weights: str | None, device: str) -> Extractor:
    """Inception if there are weights for it, else EfficientNet-Lite0.

    Raises:
        EvaluationError: if what it needs is missing.
    """
    if inception_weights is None:
        return EfficientNetLite0(pick_device(device))
    return InceptionV3(read_weights(inception_weights), pick_device(device))


def stored(source: str, count: int | None = None) -> Pictures:
    """Pictures of a folder or an .npz file, as they are.

    Raises:
        UserError: if there is no such thing.
        RecipeError, EvaluationError: if it holds no pictures, or too few.
    """
    path = Path(source)
    if path.is_dir():
        return from_folder(path, count)
    if path.suffix == ".npz":
        return from_npz(path, count)
    raise UserError(f"{source} is neither a folder nor an .npz file")


def real_images(
    data: str, count: int | None, *, size: int, channels: int, split: str = "test", first: int = 0
) -> ImageArray:
    """Real pictures as a model would be trained on them, uint8 of shape (N, H, W, C), in random order.

    Args:
        data: `faces`, a folder of pictures that are at least as large, or a recipe, which stands for its images.
        count: at most; None is all.
        split: of the faces and of sets that have several; images of `test` were never trained on. Other sets are taken
            whole.
        first: of the faces, see `draw_faces`.

    Raises:
        UserError: if there are none, or one does not fit.
        RecipeError: if there is no such recipe, or its images are not there.
    """
    if data.endswith(".toml") or (data in recipe_names() and not Path(data).is_dir()):
        return _images_of_recipe(data, count, size=size, channels=channels, split=split)
    if data == FACES:
        if channels != 3:
            raise UserError("the drawn faces are coloured and this model's images are grey: give a folder")
        if count is None:
            raise UserError("drawn faces have no end: say how many")
        return np.stack(list(draw_faces(split, first + count, size))[first:])
    try:
        paths = list_images(Path(data))
    except RecipeError as error:
        raise UserError(str(error)) from error
    random.Random(0).shuffle(paths)  # else a part would hold few of the classes
    paths = paths[:count]
    images, unreadable = read_images(paths, size, channels)
    for path, reason in unreadable:
        raise UserError(f"{path} cannot be read ({reason}): take it out of the folder")
    for path in paths:
        with Image.open(path) as image:
            # A smooth enlargement is easier to predict than any picture of that size.
            if min(image.size) < size:
                width, height = image.size
                raise UserError(f"{path} is {width}x{height}, smaller than the model's images of {size}x{size}")
    return images


def _images_of_recipe(name: str, count: int | None, *, size: int, channels: int, split: str) -> ImageArray:
    recipe = load_recipe(name)
    data = dataclasses.replace(recipe.data, split=split)
    if data.source == "faces":
        return real_images(FACES, data.count if count is None else count, size=size, channels=channels, split=split)
    items = SOURCES[data.source](data, size, channels).items
    images = [item.image for item in items if item.image is not None]  # training leaves the others out too
    if not images:
        raise UserError(f"no picture of {data.path} can be read")
    order = np.random.default_rng(0).permutation(len(images))[:count]
    return np.stack([images[i] for i in order])


def real_pictures(data: str, count: int | None, model: ModelInfo, *, split: str = "test", first: int = 0) -> Pictures:
    """Those of `real_images` in the size of a model, or of an .npz file, which holds them as they are."""
    if data.endswith(".npz"):
        return from_npz(Path(data), count)
    images = real_images(data, count, size=model.image_size, channels=model.channels, split=split, first=first)
    return from_array(f"{'other ' if first else ''}drawn faces" if data == FACES else Path(data).name, images)
