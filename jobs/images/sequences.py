"""Sequences of vectors, such as the embedding of a text: as requests send them and as jobs keep them, a .npy file."""

import numpy as np

from difuso.model.conditions import VectorSequence

from ..errors import ImageRefused
from .fitting import Fitted, Sent
from .npz import encode_npy


def fit_sequence(sent: Sent, *, condition: VectorSequence) -> Fitted:
    """Returns a sequence as a file of float32, shape (l, width); ImageRefused says what the condition takes."""
    if not isinstance(sent, np.ndarray):
        raise ImageRefused(f"The file should be an array as .npy, {condition.expected}")
    try:
        vectors = condition.array(sent)
    except ValueError as error:
        raise ImageRefused(f"The array should be {condition.expected}, and its shape is {sent.shape}") from error
    return Fitted(encode_npy(vectors), width=condition.width, height=len(vectors))
