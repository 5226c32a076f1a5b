"""Takes over facts of a guided model into the recipe of its noisy classifier, so that the two cannot disagree."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from difuso.model.folders.config import ModelConfig
from difuso.model.formats.folders import read_config
from difuso.model.networks.configs import CLASSIFIER, ForeignConfig
from difuso.model.plans.settings import GUIDANCE

from .errors import RecipeError, checkpoint_errors

OF_MODEL = ("image_size", "channels", "schedule", "prediction", "variance", "defaults", "plans")
OF_IMAGE_MODELS = (
    *("loss", "weighting", "gamma", *GUIDANCE, "teacher_calls", "label_drop", "condition_drop", "drop_all"),
    *("keep_all", "examples", "kid_every", "nearest", "condition", "conditions", "crop"),
)
ONLY_CLASSIFIERS = ("guides",)


def complete(content: dict[str, Any]) -> ModelConfig | None:
    """Completes the content of a classifier's recipe, and returns the config of the guided model; None for others.

    Raises RecipeError if the recipe contradicts the model or names none, or if another recipe has a classifier's keys.
    """
    network = content.get("network")
    if not isinstance(network, dict) or network.get("type") != CLASSIFIER:
        _refuse(ONLY_CLASSIFIERS, content, "is there for a classifier: leave it out, or set network.type to classifier")
        return None
    _refuse(OF_MODEL, content, "comes from the model that the classifier guides: leave it out")
    _refuse(("in_channels", "image_size"), network, "comes from the model that the classifier guides: leave it out")
    _refuse(OF_IMAGE_MODELS, content, "is there for networks that make images: leave it out")
    folder = content.get("guides")
    if not isinstance(folder, str) or not folder:
        raise RecipeError("guides is missing: name the folder of the model that the classifier is to guide")
    with checkpoint_errors("guides", folder):
        guided = read_config(Path(folder))
    if isinstance(guided.network, ForeignConfig):
        raise RecipeError(f"guides = {folder!r}: a classifier guides models of difuso's own networks only")
    if not guided.shape.is_square:
        raise RecipeError(
            f"guides = {folder!r}: a classifier sees squares, and this model draws {guided.shape.in_pixels}"
        )
    network |= {
        "in_channels": guided.channels,
        "image_size": guided.image_size,
        "num_classes": _classes(guided, network),
    }
    content |= {key: getattr(guided, key) for key in ("image_size", "channels", "prediction", "variance")}
    content |= {"schedule": asdict(guided.schedule), "defaults": asdict(guided.defaults), "loss": "cross_entropy"}
    _name_classes(guided, content.setdefault("data", {}))
    return guided


def _refuse(keys: tuple[str, ...], table: dict[str, Any], reason: str) -> None:
    for key in keys:
        if key in table:
            raise RecipeError(f"{key} {reason}")


def _classes(guided: ModelConfig, network: dict[str, Any]) -> Any:
    """Returns the number of classes: the guided model's, or the recipe's if that model has none."""
    given = network.get("num_classes")
    if guided.classes is None:
        if given is None:
            raise RecipeError("the guided model has no classes: set network.num_classes to the number of yours")
        return given
    if given not in (None, len(guided.classes)):
        raise RecipeError(f"the guided model has {len(guided.classes)} classes: leave network.num_classes out")
    return len(guided.classes)


def _name_classes(guided: ModelConfig, data: Any) -> None:
    """Names the classes of the images as the guided model does, unless that model only numbers them."""
    classes = list(guided.classes or ())
    if not isinstance(data, dict) or classes == [str(number) for number in range(len(classes))]:
        return
    if data.get("classes", classes) != classes:
        raise RecipeError("data.classes must be the guided model's, in their order: leave it out")
    data["classes"] = classes
