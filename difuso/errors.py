"""Mistakes that the person at the terminal can mend."""

from __future__ import annotations


class UserError(Exception):
    """Printed as one line, without a traceback; the message says what to do."""
