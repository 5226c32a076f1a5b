"""Text of others on a terminal, which obeys some characters instead of showing them."""

from __future__ import annotations


def printable(text: str) -> str:
    """Returns a text with escapes, as Python writes them, for all that is neither printable nor a line break.

    Escape sequences can set titles and the clipboard, and lone surrogates cannot be written at all.
    """
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)
