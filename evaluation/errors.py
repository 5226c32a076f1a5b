"""What can go wrong in an evaluation."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Something cannot be measured; the message says why, and what can be done."""
