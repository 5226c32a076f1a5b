"""A judge learns from real images what conditions look like; of what it finds, rare values count as frequent ones."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from difuso.evaluation import judge
from difuso.evaluation.errors import EvaluationError
from difuso.evaluation.judge import choose_rows, is_there, judged, share_there, train_judge
from difuso.model.conditions import Choice, Number, Vector
from difuso.model.network_inputs import Column
from difuso.training.data.conditions import complete_column
from difuso.training.data.images import ImageArray

pytestmark = pytest.mark.usefixtures("one_thread")

COLOUR, LEVEL = Choice(("red", "green", "blue")), Number(0, 200)
BOTH = {"colour": COLOUR, "level": LEVEL}


def lights(seed: int, count: int) -> tuple[ImageArray, dict[str, Column]]:
    """Squares of one colour and brightness on a noisy ground, and their conditions."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, 16, 16, 3), dtype=np.uint8)
    colours, levels = rng.integers(3, size=count), rng.uniform(0, 200, count).astype(np.float32)
    for image, colour, level in zip(images, colours, levels, strict=True):
        image[4:12, 4:12, colour] = 55 + level
    return images, {"colour": complete_column(colours), "level": complete_column(levels)}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "STEPS", 100)
    monkeypatch.setattr(judge, "WIDTHS", (16, 16, 16, 16))


@pytest.mark.usefixtures("quick")
def test_a_judge_sees_choices_and_numbers() -> None:
    """Images without a condition do not teach it: their values here are wrong."""
    images, given = lights(0, 400)
    wrong = torch.arange(400) % 4 == 0
    colours = Column(torch.where(wrong, (given["colour"].values + 1) % 3, given["colour"].values), ~wrong)
    found = train_judge(images, {**given, "colour": colours}, BOTH)
    others, truth = lights(1, 200)
    answers = found.answers(others)
    assert (answers["colour"] == truth["colour"].values.numpy()).mean() > 0.97
    assert np.abs(answers["level"] - truth["level"].values.numpy()).mean() < 20
    again = train_judge(images, {**given, "colour": colours}, BOTH).answers(others)
    assert all(np.array_equal(answers[name], again[name]) for name in BOTH)


def test_a_judge_sees_no_vectors_and_needs_a_batch() -> None:
    images, given = lights(0, 100)
    assert judged({**BOTH, "style": Vector(2)}) == BOTH
    with pytest.raises(EvaluationError, match="10 images are too few"):
        train_judge(images[:10], given, BOTH)


def floats(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=float)


def test_a_rare_value_counts_as_much_as_a_frequent_one() -> None:
    """Nine of nine and none of one are a half. Its error adds p (1 - p) / n, p = (k + 1) / (n + 2)."""
    asked = floats(*[0] * 9, 1)
    share = share_there(COLOUR, asked, is_there(COLOUR, asked, floats(*[0] * 10)))
    assert (share.value, share.images) == (0.5, 10)
    assert share.error == pytest.approx(((10 / 11 * 1 / 11 / 9) + (1 / 3 * 2 / 3 / 1)) ** 0.5 / 2)


def test_a_number_is_there_within_a_tenth_of_its_range() -> None:
    asked = floats(100, 100, 100, 100)
    share = share_there(LEVEL, asked, is_there(LEVEL, asked, floats(80, 120, 79, 121)))
    assert (share.value, share.images) == (0.5, 4)
    assert str(share) == "50.0 ± 25.0 %"
    with pytest.raises(EvaluationError, match="finds nothing of a condition"):
        share_there(LEVEL, asked[:0], asked[:0] == 1)


def test_each_value_is_asked_for_about_equally_often() -> None:
    """Though one of a hundred real images has it; and only images are taken that have all conditions."""
    colours = np.zeros(400, dtype=np.int64)
    colours[:4] = 1
    given = np.arange(400) % 2 == 0
    asked = Column(torch.from_numpy(colours), torch.from_numpy(given))
    columns = {"colour": asked, "level": complete_column(np.zeros(400, np.float32))}
    rows = choose_rows(BOTH, columns, 90)
    assert given[rows].all()
    counts = np.bincount(colours[rows], minlength=3)
    assert counts[1] >= 30  # the turns are: red, green and any level; there is no blue
    assert counts[0] >= 30
    assert len(rows) == 90
    judged_by_none = Column(torch.zeros(400, 2), torch.arange(400) % 3 == 0)
    assert (choose_rows(BOTH, {**columns, "style": judged_by_none}, 90) % 6 == 0).all()
    with pytest.raises(EvaluationError, match="no held-out image has all conditions"):
        choose_rows(BOTH, {**columns, "level": asked._replace(present=~asked.present)}, 90)
