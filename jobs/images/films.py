"""Films: small pictures of what an image of a job looked like on its way, a dozen predictions x̂_0 side by side."""

from collections.abc import Sequence

MOMENTS = 12
SIDE = 64  # pixels of the longer side, at most


def film_calls(steps: int) -> tuple[int, ...]:
    """Returns the network calls, counted from 1, whose predictions a film shows: spread evenly, the last among them.

    A run of one call has no film: its prediction is the image.
    """
    if steps < 2:
        return ()
    shown = min(steps, MOMENTS)
    return tuple(1 + round(index * (steps - 1) / (shown - 1)) for index in range(shown))


def film_size(height: int, width: int) -> tuple[int, int]:
    """Returns the height and width of each moment: those of the image, or smaller in the same ratio."""
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def film_bytes(steps: int, shape: Sequence[int]) -> int:
    """Returns the most bytes of the film of an image of shape (C, H, W).

    A lossy WebP of random black and white in each channel has 1.7 bytes a pixel (`tests/unit/worker/test_films.py`).
    """
    height, width = film_size(*shape[1:])
    return 512 + 2 * len(film_calls(steps)) * height * width
