"""The attributes that the faces are drawn by, as conditions: names that people use, and what each means to DiceBear."""

from collections.abc import Mapping
from typing import Any

NONE = "none"

# From the name of each choice to the parameters of open-peeps that it means. Drawings that look alike have one name.
SKIN = {"light": "#ffdbb4", "tan": "#edb98a", "bronze": "#d08b5b", "brown": "#ae5d29", "dark": "#694d3d"}
HAIR = {
    "bald": "noHair1 noHair2 noHair3",
    "short": "short1 short2 short3 short5 grayShort",
    "quiff": "short4 pomp",
    "shaved sides": "shaved1 shaved2 shaved3",
    "flat top": "flatTop flatTopLong",
    "mohawk": "mohawk mohawk2",
    "medium": "medium1 medium2 medium3 mediumStraight grayMedium",
    "bangs": "bangs bangs2 mediumBangs mediumBangs2 mediumBangs3",
    "long": "long longBangs longCurly",
    "bun": "bun bun2 grayBun",
    "buns": "buns",
    "afro": "afro longAfro",
    "dreadlocks": "dreads1 dreads2",
    "cornrows": "cornrows cornrows2",
    "knots": "bantuKnots",
    "twists": "twists twists2",
    "beanie": "hatBeanie",
    "hat": "hatHip",
    "hijab": "hijab",
    "turban": "turban",
    "bear": "bear",
}
HAIR_COLOUR = {
    "black": "#2c1b18",
    "dark brown": "#4a312c",
    "brown": "#724133",
    "auburn": "#a55728",
    "light brown": "#b58143",
    "blond": "#d6b370",
    "light blond": "#ecdcbf",
    "white": "#e8e1e1",
    "red": "#c93305",
    "pink": "#f59797",
}
# Heads without hair, and heads whose hair has the colour of hair; all other hair is drawn in ink, which is black.
HAIRLESS = {"noHair1", "noHair2", "hatHip", "hijab", "turban", "bear"}
COLOURED = {
    *("bangs", "cornrows", "grayBun", "grayMedium", "grayShort", "mediumBangs2", "mohawk", "mohawk2", "noHair3"),
    "short4",
}
FACE = {
    "smile": "smile calm cute",
    "grin": "smileBig smileTeethGap",
    "laughing": "smileLOL",
    "in love": "lovingGrin1 lovingGrin2",
    "chewing": "eatingHappy",
    "cheeky": "cheeky",
    "talking": "explaining",
    "amazed": "awe",
    "calm": "blank contempt eyesClosed",
    "serious": "serious driven",
    "suspicious": "suspicious",
    "worried": "concerned concernedFear",
    "afraid": "fear hectic",
    "sad": "solemn",
    "tired": "tired",
    "angry": "angryWithFang veryAngry",
    "furious": "rage",
    "old": "old",
    "cyclops": "cyclops",
    "monster": "monster",
}
GLASSES = {
    "thin": "glasses",
    "round": "glasses2 glasses5",
    "dark": "glasses3",
    "white": "glasses4",
    "sunglasses": "sunglasses sunglasses2",
    "eye patch": "eyepatch",
}
BEARD = {
    "full": "full full2 full3 full4",
    "chin": "chin",
    "goatee": "goatee1 goatee2",
    "moustache": "moustache2 moustache5 moustache6 moustache7 moustache9",
    "thin moustache": "moustache1 moustache4",
    "curled moustache": "moustache3 moustache8",
}
MASK = {"medical": "medicalMask", "respirator": "respirator"}
CLOTHES = {
    "blue": "#8fa7df",
    "green": "#78e185",
    "orange": "#ffcf77",
    "pink": "#e279c7",
    "red": "#e78276",
    "turquoise": "#9ddadb",
    "yellow": "#fdea6b",
}
BACKGROUND = {
    "light blue": "#b6e3f4",
    "purple": "#c0aede",
    "lavender": "#d1d4f9",
    "pink": "#ffd5dc",
    "peach": "#ffdfbf",
    "green": "#a3d9a5",
    "orange": "#f6c177",
    "blue": "#9bb8d3",
}

# The names of the choices of each attribute.
ATTRIBUTES = {
    "skin": tuple(SKIN),
    "hair": tuple(HAIR),
    "hair_colour": (*HAIR_COLOUR, NONE),
    "face": tuple(FACE),
    "glasses": (NONE, *GLASSES),
    "beard": (NONE, *BEARD),
    "face_mask": (NONE, *MASK),
    "clothes": tuple(CLOTHES),
    "background": tuple(BACKGROUND),
}


def attributes_of(drawn_by: Mapping[str, Any], background: str) -> dict[str, str]:
    """Returns the choice of each of `ATTRIBUTES` for a face, from the parameters that drew it.

    Args:
        drawn_by: the parameters as `dicebear.Avatar.to_json` tells them; a part that is not drawn has none.
        background: the colour behind the face, one of `BACKGROUND`.
    """
    head = drawn_by["headVariant"]
    return {
        "skin": _name(SKIN, drawn_by["skinColor"][0]),
        "hair": _name(HAIR, head),
        "hair_colour": _hair_colour(head, drawn_by),
        "face": _name(FACE, drawn_by["expressionVariant"]),
        "glasses": _name(GLASSES, drawn_by.get("accessoriesVariant")),
        "beard": _name(BEARD, drawn_by.get("facialHairVariant")),
        "face_mask": _name(MASK, drawn_by.get("maskVariant")),
        "clothes": _name(CLOTHES, drawn_by["clothingColor"][0]),
        "background": _name(BACKGROUND, background),
    }


def _hair_colour(head: str, drawn_by: Mapping[str, Any]) -> str:
    if head in HAIRLESS:
        return NONE
    return _name(HAIR_COLOUR, drawn_by["headContrastColor"][0]) if head in COLOURED else "black"


def _name(choices: Mapping[str, str], parameter: str | None) -> str:
    """Returns the name of the choice that a parameter stands for; of a part that is not drawn, `NONE`."""
    if parameter is None:
        return NONE
    return next(name for name, meant in choices.items() if parameter in meant.split())
