"""The largest image of a request."""

from ..errors import ImageTooLarge

MAX_PIXELS = 2048 * 2048  # of one image; decoded it takes 16 MB, and its conversion a few times that
MAX_SIDE = 8192  # pixels
MAX_BYTES = 8 * MAX_PIXELS  # of the numbers of one image: four channels of 16 bits at the most pixels


def check_size(width: int, height: int, *, bytes_per_pixel: int = 1) -> None:
    """Raises ImageTooLarge if an image has too many pixels or too long sides to be decoded."""
    if max(width, height) > MAX_SIDE or width * height > min(MAX_PIXELS, MAX_BYTES // bytes_per_pixel):
        most = min(MAX_PIXELS, MAX_BYTES // bytes_per_pixel)
        limit = f"{most} pixels and {MAX_SIDE} on each side"
        raise ImageTooLarge(f"The image should have at most {limit}, not {width}x{height}")
