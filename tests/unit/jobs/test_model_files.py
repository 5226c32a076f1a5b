"""The first sentence of a model's card, whatever Markdown stands around it."""

from pathlib import Path

import pytest

from difuso.jobs.model_folders import ABOUT_LENGTH, find_document, first_sentence


@pytest.mark.parametrize(
    ("card", "about"),
    [
        ("# faces\n\nDrawn faces, 64\u00d764 RGB. A U-Net.\n", "Drawn faces, 64\u00d764 RGB."),
        ("---\nlicense: cc0\n---\n\n# faces\n\n![sheet](sheet.png)\n\nFaces\nof `two` *lines*\n", "Faces of two lines"),
        ("Made from [Open Peeps](https://www.openpeeps.com/)! More.", "Made from Open Peeps!"),
        ("# faces\n\n| a | table |\n\n- a list\n\n    code\n\nWords.\n", "Words."),
        ("", None),
        ("x" * 5000, "x" * ABOUT_LENGTH),
        ("\udcff", "\ufffd"),
    ],
)
def test_the_first_sentence(tmp_path: Path, card: str, about: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode("utf-8", "surrogateescape"))
    assert first_sentence(tmp_path) == about


def test_without_a_card_there_is_no_sentence(tmp_path: Path) -> None:
    assert first_sentence(tmp_path) is None
    assert find_document(tmp_path, "card") is None
