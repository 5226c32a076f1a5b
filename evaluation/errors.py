"""Errors of evaluations."""


class EvaluationError(ValueError):
    """Something cannot be measured; the message says why, and what to do."""
