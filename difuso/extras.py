"""The extras of difuso: what installs one, and which of them has a package that is missing."""

from __future__ import annotations

import re
from importlib.metadata import requires

# Of a requirement such as `tensorboard>=2.20; extra == "train"`; one of difuso itself names other extras.
OF_AN_EXTRA = re.compile(r"(?!difuso\b)(?P<package>[\w-]+).*; extra == \"(?P<extra>[\w-]+)\"")


def installing(extra: str) -> str:
    """Returns what installs an extra: difuso is not on PyPI, so pip needs the clone."""
    return f"pip install -e '.[{extra}]' in the clone of difuso"


def extra_with(module: str) -> str | None:
    """Returns the first extra whose packages have a module, by its whole name; None if none has it."""
    name = module.partition(".")[0].replace("_", "-")
    for found in filter(None, map(OF_AN_EXTRA.match, requires("difuso") or ())):
        if f"{found['package']}-".startswith(f"{name}-"):  # dicebear is a part of several packages
            return found["extra"]
    return None
