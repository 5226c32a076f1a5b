"""The choices that recipes make by name, and their modules, which are not imported: checking a recipe needs none.

In place of one of ours, `package.module:function` names a function of another package.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

from difuso.model.foreign.names import Own, is_foreign

from .objective.weightings import WEIGHTINGS

TEACHER = "teacher"  # the source of images that a model draws from known noise, see `training.data.pairs`


class SourceChoice(NamedTuple):
    """A source of images."""

    # the module of `training.data` with the function `open_NAME`, which does what `open_source` does; empty for one of
    # another package
    module: str
    halves: bool = False  # whether it has a training and a test half, between which `data.split` chooses
    # whether images have names, but no test half, so that `image_files.of_split` can choose some of them
    reserves: bool = False
    has_conditions: bool = False  # whether it has values of conditions by itself


SOURCES = {
    "faces": SourceChoice("faces", halves=True, has_conditions=True),
    "folder": SourceChoice("image_files", reserves=True),
    "zip": SourceChoice("image_files", reserves=True),
    "npz": SourceChoice("array_files"),
    "idx": SourceChoice("array_files", halves=True),
    "huggingface": SourceChoice("huggingface", halves=True, has_conditions=True),
    TEACHER: SourceChoice("pairs", has_conditions=True),
}


class LossChoice(NamedTuple):
    """A loss."""

    # the module of `training.objective` whose `objective_of` does what `objectives.objective_of` does; empty for one of
    # another package
    module: str
    weighted: bool = False  # whether a recipe may choose its weighting
    # whether the variational bound, of 256 levels, is in it, which can train a learned variance
    has_bound: bool = False


LOSSES = {
    "simple": LossChoice("losses", weighted=True),
    "hybrid": LossChoice("losses", weighted=True, has_bound=True),
    "vlb": LossChoice("losses", has_bound=True),
    "distillation": LossChoice("distillation"),
    "regression": LossChoice("regression"),
    "cross_entropy": LossChoice("losses"),
}


def source_of(name: str) -> SourceChoice:
    """Returns the source of a name; a source of another package may have halves and any conditions."""
    return SourceChoice("", halves=True, has_conditions=True) if is_foreign(name) else SOURCES[name]


def loss_of(name: str) -> LossChoice:
    """Returns the loss of a name."""
    return LossChoice("") if is_foreign(name) else LOSSES[name]


# Types that check recipes. For mypy, which cannot see the tables, they are plain strings.
if TYPE_CHECKING:
    SourceName = str
    LossName = str
    WeightingName = str
else:
    SourceName, LossName, WeightingName = (Literal[tuple(names)] | Own for names in (SOURCES, LOSSES, WEIGHTINGS))
