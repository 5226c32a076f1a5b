"""Errors of evaluations."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Something cannot be measured; the message says why, and what to do."""
