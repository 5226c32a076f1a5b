"""Recipes for pictures of one's own: a folder or a zip archive of them, and a preset that says how long to learn.

The folders of the pictures become classes, and the columns of a table conditions. Networks and settings are those that
were found for the models that ship; the number of steps follows from the time that one takes on this machine.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from difuso.model.conditions import MAX_EXAMPLES, NAME

from .data.image_files import image_names
from .data.tables import FILE_NAME, LABEL, read_table
from .errors import RecipeError

LEAST, FEW = 50, 500  # pictures: with fewer nothing is learned, and a model of few remembers each
MOST_CLASSES, MOST_CHOICES = 200, 64
IN_EACH = 5  # pictures at least, on average, of a class
HELD_PART, LEAST_HELD, MOST_HELD = 20, 16, 256  # one picture in so many is held out, within these bounds
MOST_SHOWN = 400  # times that a picture is shown: more often, it is only remembered
EVERY = {"save": 100, "log": 10}  # seconds between two
SHEETS = 10  # of the first a server serves the model, so that each is saved


class Preset(NamedTuple):
    """How large pictures are, how they are learned, and for how long."""

    minutes: float
    image_size: int
    batch_size: int
    channels: int
    channel_mult: list[int]
    patch: int


PRESETS: dict[str, Preset] = {
    "taste": Preset(10, 32, 32, channels=48, channel_mult=[1, 2, 2], patch=2),
    "good": Preset(60, 64, 64, channels=64, channel_mult=[1, 2, 2], patch=4),
    "best": Preset(480, 64, 64, channels=48, channel_mult=[1, 2, 2, 3], patch=2),
}

_RECIPE = """\
# {command}
name = {name}
image_size = {image_size}
prediction = "v"
timesteps = "stratified"
optimizer = "muon"
batch_size = {batch_size}
max_steps = {steps}
learning_rate = 1e-3
warmup_steps = {warmup}
decay_steps = {decay}
ema_decay = {ema}
save_every = {save}
sheet_every = {sheet}
nearest = true
log_every = {log}
{dropout}
[network]
channels = {channels}
channel_mult = {channel_mult}
num_res_blocks = 1
attention_levels = {attention}
head_channels = {channels}
time_injection = "scale_shift"
groups = 16
patch = {patch}
pixel_head = 16
{classes}
[schedule]
type = "cosine"
num_train_timesteps = 1000

[defaults]
sampler = "unipc"
steps = 10
spacing = "exponential"

[data]
{data}
{conditions}"""


@dataclass(frozen=True)
class Pictures:
    """What there is to learn.

    Attributes:
        classes: the names of the classes; none without at least two.
        conditions: the declarations of conditions, as lines of TOML, by name.
        left_out: why a column of the table, or the folders, are no conditions or classes, by name.
    """

    path: Path
    table: Path | None
    count: int
    classes: tuple[str, ...]
    conditions: dict[str, str]
    left_out: dict[str, str]

    @property
    def held_out(self) -> int:
        """The number of pictures that are not trained on, to see when the model only remembers the others."""
        held = min(MOST_HELD, max(LEAST_HELD, self.count // HELD_PART))
        return held if self.count - held >= LEAST else 0


def look_at(path: Path, table: Path | None = None) -> Pictures:
    """Looks at a folder or a zip archive of pictures, and at their table, without reading a picture.

    Raises RecipeError if there are fewer than `LEAST`, or the table cannot be read.
    """
    names = image_names(path)
    if len(names) < LEAST:
        raise RecipeError(f"{path} holds {len(names)} pictures: {LEAST} is the least, and several hundred learn better")
    folders, left_out, conditions = [name.parent.name for name in names], dict[str, str](), dict[str, str]()
    labels: Sequence[str] = [] if "" in folders else folders
    if table is not None:
        rows, columns = read_table(table)
        cells = [values for _, values in rows.values()]
        labels = [str(values[LABEL]) for values in cells if LABEL in values] or labels
        for column in columns:
            if column not in (FILE_NAME, LABEL):
                found = [values[column] for values in cells if column in values]
                declared, reason = _declared(column, found)
                conditions |= {column: declared} if declared else {}
                left_out |= {} if declared else {column: reason}
    classes = tuple(sorted(set(labels), key=lambda each: (each.isdecimal() and int(each), each)))
    if len(classes) > min(MOST_CLASSES, len(names) // IN_EACH):
        left_out["classes"] = f"{len(classes)} are too many for {len(names)} pictures"
        classes = ()
    return Pictures(path, table, len(names), classes if len(classes) > 1 else (), conditions, left_out)


def _declared(column: str, cells: Sequence[Any]) -> tuple[str, str]:
    """Returns the declaration of a column's condition, or why it is none."""
    if not re.fullmatch(NAME, column):
        return "", "a condition's name has a-z, 0-9 and _ only"
    counts = Counter(
        json.dumps(cell) if isinstance(cell, int) else str(cell) for cell in cells
    )  # as a choice reads them
    numbers = [number for number in map(_number, cells) if number is not None]
    if len(numbers) == len(cells) and len(set(numbers)) > 2:
        low, high = math.floor(min(numbers)), math.ceil(max(numbers))
        return f'{{ type = "number", low = {low}, high = {high}, null = true }}', ""
    if 2 <= len(counts) <= MOST_CHOICES:
        return f'{{ type = "choice", values = {json.dumps(sorted(counts))}, null = true }}', ""
    return "", f"it has {len(counts)} different values, and a choice 2 to {MOST_CHOICES}"


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def recipe_text(
    pictures: Pictures, preset: str, *, name: str, command: str, step_seconds: float, minutes: float | None = None
) -> str:
    """Returns the recipe of a preset as TOML, for people to read and change.

    Args:
        command: the line that makes it, for its first comment.
        step_seconds: the seconds that a step of this preset takes, with these pictures, on this machine.
        minutes: how long to train; None for the preset's own.
    """
    chosen, count = PRESETS[preset], pictures.count - pictures.held_out
    batch = min(chosen.batch_size, count // 2)
    wanted = 60 * (chosen.minutes if minutes is None else minutes) / step_seconds
    steps = max(20, round(min(wanted, MOST_SHOWN * count / batch)))
    sheet = -(-steps // SHEETS)
    every = {what: min(sheet, max(1, round(seconds / step_seconds))) for what, seconds in EVERY.items()}
    data = [f"source = {json.dumps('folder' if pictures.path.is_dir() else 'zip')}"]
    data.append(f"path = {json.dumps(str(pictures.path.absolute()))}")
    if pictures.table is not None:
        data.append(f"table = {json.dumps(str(pictures.table.absolute()))}")
        data.append(f"classes = {json.dumps(pictures.classes)}")
    if pictures.held_out:
        data += [f"reserved = {pictures.held_out}", "\n[held_out]", 'split = "test"']
    dropout = ["label_drop = 0.1"] if pictures.classes else []
    if pictures.conditions:
        dropout += ["condition_drop = 0.2", "drop_all = 0.25", "keep_all = 0.45"]
        dropout += [] if pictures.classes else [f"examples = {min(count, MAX_EXAMPLES // 2)}"]
    declared = [f"{column} = {declared}" for column, declared in pictures.conditions.items()]
    return _RECIPE.format(
        command=command,
        name=json.dumps(name),
        batch_size=batch,
        steps=steps,
        warmup=min(200, steps // 10),
        decay=2 * steps // 5,
        ema=round(1 - 1 / min(2000.0, max(10.0, steps / 20)), 5),
        sheet=sheet,
        dropout="".join(f"{line}\n" for line in dropout),
        attention=[level for level in range(len(chosen.channel_mult)) if level > 1],
        classes=f"num_classes = {len(pictures.classes)}\n" if pictures.classes else "",
        data="\n".join(data),
        conditions="\n".join(["\n[conditions]", *declared, ""]) if declared else "",
        **every,
        **{key: value for key, value in chosen._asdict().items() if key not in ("minutes", "batch_size")},
    )
