"""Descriptions of models as HTML: what anybody may have written, and what a page may show."""

from __future__ import annotations

from pathlib import Path

import pytest

from difuso.app.cards import MOST_BYTES, as_html


def html(folder: Path, text: str) -> str:
    path = folder / "README.md"
    path.write_text(text, "utf-8")
    return as_html(path, len(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("---\nlicense: mit\n---\n# tiny", "<h3>tiny</h3>\n"),
        ("#### deep", "<h4>deep</h4>\n"),
        (
            "[how](https://arxiv.org/abs/2006.11239)",
            '<p><a href="https://arxiv.org/abs/2006.11239" rel="noreferrer" target="_blank">how</a></p>\n',
        ),
        ("[others](../../docs/http-api.md)", "<p><a>others</a></p>\n"),
        ("[run](javascript:alert(1))", "<p>[run](javascript:alert(1))</p>\n"),
        ("![a sheet](https://example.com/sheet.png)", "<p></p>\n"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("a <b onclick=x>b</b>", "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>\n"),
        ("`a|b` **c** *d*", "<p><code>a|b</code> <strong>c</strong> <em>d</em></p>\n"),
    ],
)
def test_what_is_shown(tmp_path: Path, text: str, shown: str) -> None:
    assert html(tmp_path, text) == shown


def test_the_corner_of_a_table_is_no_title(tmp_path: Path) -> None:
    shown = html(tmp_path, "| | KID |\n| --- | --- |\n| ddim | 5 |").replace("\n", "")
    assert shown.startswith("<table><thead><tr><td></td><th>KID</th></tr></thead>")


def test_a_changed_card_is_read_again(tmp_path: Path) -> None:
    assert html(tmp_path, "one") == "<p>one</p>\n"
    assert html(tmp_path, "three") == "<p>three</p>\n"


@pytest.mark.parametrize("piece", ["[a](", "[", "![", "**a* ", "`a` ", "> ", "\n- a", "\n|a|a"])
def test_one_made_to_be_slow_is_read(tmp_path: Path, piece: str) -> None:
    """Each takes about a second; in quadratic time one of them would take minutes."""
    text = f"begin{piece * ((MOST_BYTES - 20) // len(piece))}\n\nend"
    assert "end" in html(tmp_path, text)[-40:]


def test_only_the_begin_of_an_endless_one_is_read(tmp_path: Path) -> None:
    assert len(html(tmp_path, "a" * 2 * MOST_BYTES)) < MOST_BYTES + 10
