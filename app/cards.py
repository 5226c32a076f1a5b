"""The description of a model as HTML, which a page may show whoever wrote it."""

from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from difuso.jobs.model_folders import FRONT_MATTER

KEPT = 64  # cards
MOST_BYTES = 1 << 17  # of a card: those made to be slow take a second, once
ABOVE = 2  # levels of headings, for the page and the name of the model
LEAST = 4  # the level of the smallest headings


@lru_cache(KEPT)
def as_html(card: Path, changed: int) -> str:
    """Returns a card as HTML: without a header for the model hub, images, links into the folder, and HTML of its own.

    What follows the first MOST_BYTES is left out. It is made once for each version of the file.

    Args:
        changed: the time of the file's last change, in nanoseconds.

    Raises OSError if the file cannot be read.
    """
    with card.open("rb") as file:
        text = file.read(MOST_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    return str(_MARKDOWN.render(FRONT_MATTER.sub("", text)))


def _lower_headings(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(LEAST, int(token.tag[1:]) + ABOVE)}"


def _leave_corners_empty(state: StateCore) -> None:
    """Makes plain cells of the titles without words, which no screen reader should announce."""
    for opening, words, closing in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if opening.type == "th_open" and not words.content:
            opening.tag = closing.tag = "td"


def _link(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, env: MutableMapping[str, Any]
) -> str:
    """Renders the begin of a link; one without an address, which browsers show as text, if it leads into the folder."""
    token = tokens[index]
    is_whole = str(token.attrs["href"]).startswith(("http://", "https://"))
    token.attrs = {"href": token.attrs["href"], "rel": "noreferrer", "target": "_blank"} if is_whole else {}
    return renderer.renderToken(tokens, index, options, env)


def _nothing(*_: Any) -> str:
    return ""


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_MARKDOWN.core.ruler.push("lower_headings", _lower_headings)
_MARKDOWN.core.ruler.push("leave_corners_empty", _leave_corners_empty)
_MARKDOWN.add_render_rule("link_open", _link)
_MARKDOWN.add_render_rule("image", _nothing)
