"""The attributes that the faces are drawn by, as conditions: `face_attributes.toml` says what each name means."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

NONE = "none"

# By attribute and by the name of its choice: the parameters of open-peeps that it means.
CHOICES: dict[str, dict[str, str]] = tomllib.loads(
    files("difuso.training.data").joinpath("face_attributes.toml").read_text("utf-8")
)
ATTRIBUTES = {name: tuple(choices) for name, choices in CHOICES.items()}  # the names of the choices of each attribute

# Heads without hair, and heads whose hair has the colour of hair; all other hair is drawn in ink, which is black.
HAIRLESS = {"noHair1", "noHair2", "hatHip", "hijab", "turban", "bear"}
COLOURED = {
    *("bangs", "cornrows", "grayBun", "grayMedium", "grayShort", "mediumBangs2", "mohawk", "mohawk2", "noHair3"),
    "short4",
}
INK = CHOICES["hair_colour"]["black"]


def attributes_of(drawn_by: Mapping[str, Any], background: str) -> dict[str, str]:
    """Returns the choice of each of `ATTRIBUTES` for a face, from `dicebear.Avatar.to_json` and its background."""
    head = drawn_by["headVariant"]
    hair_colour = drawn_by["headContrastColor"][0] if head in COLOURED else INK
    parameters = {
        "skin": drawn_by["skinColor"][0],
        "hair": head,
        "hair_colour": None if head in HAIRLESS else hair_colour,
        "face": drawn_by["expressionVariant"],
        "glasses": drawn_by.get("accessoriesVariant"),
        "beard": drawn_by.get("facialHairVariant"),
        "face_mask": drawn_by.get("maskVariant"),
        "clothes": drawn_by["clothingColor"][0],
        "background": background,
    }
    return {name: NONE if value is None else _name(name, value) for name, value in parameters.items()}


def _name(attribute: str, parameter: str) -> str:
    return next(name for name, meant in CHOICES[attribute].items() if parameter in meant.split())
