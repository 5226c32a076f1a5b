"""A face has the conditions that it is drawn by: each name means what open-peeps draws, and is seen in the image."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difuso.model.conditions import Choice
from difuso.model.folders.config_json import config_from_json
from difuso.model.folders.files import CONFIG, read_json
from difuso.model.folders.never import combinations_in
from difuso.model.shape import Shape
from difuso.training.data import face_attributes as names
from difuso.training.data.face_attributes import ATTRIBUTES, NONE, attributes_of
from difuso.training.data.faces import open_faces
from difuso.training.data.source_images import SourceImage
from difuso.training.recipe import Data
from difuso.training.recipe_reading import load_recipe

STYLE: dict[str, Any] = json.loads(files("dicebear_styles").joinpath("open-peeps.json").read_text("utf-8"))


def variants(component: str) -> dict[str, Any]:
    found: dict[str, Any] = STYLE["components"][component]["variants"]
    return found


@pytest.mark.parametrize(
    ("choices", "drawn"),
    [
        (names.CHOICES["skin"], STYLE["colors"]["skin"]["values"]),
        (names.CHOICES["hair"], variants("head")),
        (names.CHOICES["hair_colour"], STYLE["colors"]["headContrast"]["values"]),
        (names.CHOICES["face"], variants("expression")),
        (names.CHOICES["glasses"], variants("accessories")),
        (names.CHOICES["beard"], variants("facialHair")),
        (names.CHOICES["face_mask"], variants("mask")),
        (names.CHOICES["clothes"], STYLE["colors"]["clothing"]["values"]),
    ],
    ids=["skin", "hair", "hair_colour", "face", "glasses", "beard", "mask", "clothes"],
)
def test_everything_that_can_be_drawn_has_one_name(choices: dict[str, str], drawn: Any) -> None:
    assert sorted(" ".join(choices.values()).split()) == sorted(drawn)


def test_heads_have_the_colour_of_hair_where_the_style_paints_it() -> None:
    painted = {name for name, head in variants("head").items() if '"name": "headContrast"' in json.dumps(head)}
    assert painted == names.COLOURED
    assert variants("head").keys() - painted >= names.HAIRLESS


@pytest.fixture(scope="module")
def faces() -> list[SourceImage]:
    return list(open_faces(Data(count=64), Shape.of(64, 3)).items)


def test_each_face_has_a_choice_of_each_attribute(faces: list[SourceImage]) -> None:
    for face in faces:
        assert face.values.keys() == ATTRIBUTES.keys()
        for name, value in face.values.items():
            assert value in ATTRIBUTES[name], name
    attributes = {(name, value) for face in faces for name, value in face.values.items()}
    assert len(attributes) > 0.6 * sum(map(len, ATTRIBUTES.values()))


def test_the_colours_of_a_face_are_in_its_image(faces: list[SourceImage]) -> None:
    """Skin is seen on every face; hair in its colour, unless it is black as all outlines are."""
    for face in faces:
        assert face.image is not None
        pixels = {tuple(pixel) for pixel in face.image.reshape(-1, 3).tolist()}
        colours = {names.CHOICES["background"][face.values["background"]], names.CHOICES["skin"][face.values["skin"]]}
        if face.values["hair_colour"] not in ("black", NONE):
            colours.add(names.CHOICES["hair_colour"][face.values["hair_colour"]])
        for colour in colours:
            assert tuple(int(part, 16) for part in re.findall("..", colour[1:])) in pixels, (face.name, face.values)


def test_faces64_has_seen_every_face_that_is_drawn(faces: list[SourceImage]) -> None:
    folder = Path(__file__).parents[3] / "checkpoints" / "faces64"
    never = config_from_json(read_json(folder, CONFIG)).never
    assert combinations_in(never, {"hair": "afro", "hair_colour": "red"})
    assert not any(combinations_in(never, face.values) for face in faces)


def test_glasses_beards_and_masks_are_drawn_as_often_as_they_are_named(faces: list[SourceImage]) -> None:
    """By the style on 20 %, 10 % and 5 % of the faces; within four standard errors."""
    for name, component in (("glasses", "accessories"), ("beard", "facialHair"), ("face_mask", "mask")):
        share = STYLE["components"][component]["probability"] / 100
        there = np.mean([face.values[name] != NONE for face in faces])
        assert abs(there - share) < 4 * (share * (1 - share) / len(faces)) ** 0.5, name


def test_names_of_one_drawing() -> None:
    drawn_by = {
        "skinColor": ["#edb98a"],
        "clothingColor": ["#9ddadb"],
        "headVariant": "mohawk2",
        "headContrastColor": ["#c93305"],
        "expressionVariant": "smileLOL",
        "accessoriesVariant": "glasses5",
    }
    attributes = attributes_of(drawn_by, "#ffd5dc")
    assert " ".join(f"{name}: {value}," for name, value in attributes.items()) == (
        "skin: tan, hair: mohawk, hair_colour: red, face: laughing, glasses: round, beard: none, face_mask: none, "
        "clothes: turquoise, background: pink,"
    )
    assert attributes_of({**drawn_by, "headVariant": "afro"}, "#ffd5dc")["hair_colour"] == "black"
    assert attributes_of({**drawn_by, "headVariant": "turban"}, "#ffd5dc")["hair_colour"] == NONE


def test_a_recipe_takes_the_values_of_the_faces() -> None:
    changes = ["conditions.hair.type=choice", "conditions.hair.null=true", "condition_drop=0.1"]
    assert load_recipe("smoke", changes).conditions == {"hair": Choice(ATTRIBUTES["hair"], null=True)}
    few = load_recipe("smoke", [*changes, 'conditions.hair.values=["long", "short"]'])
    assert few.conditions == {"hair": Choice(("long", "short"), null=True)}
