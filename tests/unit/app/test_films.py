"""Animations of films: every moment is a frame, whatever the proportions of the image."""

import io

import pytest
from PIL import Image

from difuso.app.formats import FilmFormat, rendered_film
from difuso.jobs.moments import FILM_MOMENTS, film_size
from tests.pictures import saved

GREYS = [20 * moment for moment in range(FILM_MOMENTS)]


@pytest.mark.parametrize(
    ("filmed", "drawn"),
    [
        # Height and width. Rounded both, they are not in the ratio of the image.
        *(
            ((height, width),) * 2
            for height, width in [(48, 80), (80, 48), (40, 1024), (1024, 40), (8, 1024), (16, 24)]
        ),
        ((16, 16), (48, 48)),  # a cascade
    ],
)
def test_every_moment_is_a_frame(filmed: tuple[int, int], drawn: tuple[int, int]) -> None:
    height, width = film_size(*filmed)
    strip = Image.new("L", (FILM_MOMENTS * width, height))
    for moment, grey in enumerate(GREYS):
        strip.paste(grey, (moment * width, 0, (moment + 1) * width, height))
    image = Image.new("L", drawn[::-1], 255)
    film = Image.open(io.BytesIO(rendered_film(saved(strip, "PNG"), saved(image, "PNG"), FilmFormat.APNG)))
    frames = []
    for index in range(film.n_frames):  # type: ignore[attr-defined]
        film.seek(index)
        frames.append(film.convert("L").getextrema())
    assert frames == [(grey, grey) for grey in (*GREYS, 255)]
