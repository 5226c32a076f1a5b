"""Where version 0.2.0 had `q_sample`, for losses of other packages."""

from .noise import q_sample as q_sample
