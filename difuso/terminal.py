"""Foreign text on a terminal, which obeys some characters instead of showing them."""


def printable(text: str) -> str:
    """Returns a text with Python's escapes for characters that are neither printable nor line breaks.

    Escape sequences can set titles and the clipboard, and lone surrogates cannot be written at all.
    """
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)
