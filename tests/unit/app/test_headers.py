from __future__ import annotations

import pytest

from difuso.app.errors import NotAcceptable
from difuso.app.formats import FilmFormat, Format
from difuso.app.http.headers import (
    MAX_ACCEPT,
    Accept,
    choose_format,
    read_idempotency_key,
    read_preference,
    read_urgency,
)

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
CHROMIUM_IMAGE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"  # of an <img>


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.PNG),
        ("*/*", Format.PNG),
        ("image/*", Format.PNG),
        (BROWSER, Format.PNG),
        (CHROMIUM, Format.PNG),
        (CHROMIUM_IMAGE, Format.PNG),
        ("image/apng", Format.APNG),
        ("image/apng, image/png;q=0.5", Format.APNG),
        ("application/json", Format.JSON),
        ("application/zip, image/png;q=0.5", Format.ZIP),
        ("image/png;q=0, */*;q=0.1", Format.ZIP),
        ("application/x-npz", Format.NPZ),
        ("application/x-npz, */*", Format.NPZ),
        ("application/x-npz;q=0.5, image/png", Format.PNG),
        ("application/*", Format.ZIP),
    ],
)
def test_the_format_is_what_accept_likes_best(accept: str, form: Format) -> None:
    assert Accept(accept).choose() is form


def test_a_long_accept_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unfinished string takes quadratic time, 0.15 s for 16 kB."""
    kept = "*/*" + (MAX_ACCEPT - 3) * " "
    assert Accept(kept).choose() is Format.PNG
    assert choose_format(kept, [*FilmFormat]) is FilmFormat.WEBP
    monkeypatch.setattr("mimeparse.best_match", lambda *args: pytest.fail("it is read"))
    with pytest.raises(NotAcceptable, match=f"at most {MAX_ACCEPT} characters"):
        Accept('*/*;"'.ljust(MAX_ACCEPT + 1, ";")).choose()


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.NPZ),
        ("*/*", Format.NPZ),
        (BROWSER, Format.NPZ),
        ("image/png, */*;q=0.1", Format.NPZ),
        ("application/*", Format.NPZ),
        ("application/json", Format.JSON),
        ("application/x-npy", Format.NPY),
        ("application/json, application/x-npz;q=0.5", Format.JSON),
    ],
)
def test_images_that_are_no_pngs_are_arrays_unless_accept_excludes_them(accept: str, form: Format) -> None:
    assert Accept(accept).choose(4) is form


@pytest.mark.parametrize("accept", ["image/png", "image/*", "application/zip", "*/*;q=0"])
def test_what_no_array_satisfies_learns_what_would(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="Images of 4 channels are not PNGs: accept application/x-npz or"):
        Accept(accept).choose(4)


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "image/png;q=0", "nonsense", "a/b/c", ";;,"])
def test_what_cannot_be_made_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        Accept(accept).choose()


@pytest.mark.parametrize(
    ("prefer", "seconds", "applied"),
    [
        (None, 300, None),
        ("respond-async", 0, "respond-async"),
        ("wait=5", 5, "wait=5"),
        ('Respond-Async, Wait="10"', 10, "respond-async, wait=10"),
        ("wait=0", 0, "wait=0"),
        ("wait=9999", 300, "wait=300"),
        ("wait=-1", 300, None),
        ("wait=soon; now, handling=lenient", 300, None),
        ("wait=5, wait=10", 5, "wait=5"),
        ("wait=soon, wait=10", 300, None),
        ('Wait = 5 ; reason=a, foo="b"', 5, "wait=5"),
        ("respond-async, respond-async=no, foo;wait=9", 0, "respond-async"),
        ("wait", 300, None),
        ('wait=""', 300, None),
        ("wait=\u0665", 300, None),
        (",, ,wait=5,", 5, "wait=5"),
    ],
)
def test_prefer_says_how_long_to_wait(prefer: str | None, seconds: float, applied: str | None) -> None:
    preference = read_preference(prefer, longest=300, otherwise=300)
    assert (preference.seconds, preference.applied) == (seconds, applied)


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "header",
    ['"' * 16_000, '\\"' * 8_000, "a=" * 8_000, " ;" * 8_000, 'a="' + "\\" * 16_000, "a=" + " " * 100_000 + "@"],
)
def test_no_header_takes_long_to_read(header: str) -> None:
    assert read_preference(header, longest=300, otherwise=300).applied is None
    assert read_urgency(header) == 3
    assert read_idempotency_key(header) is None


@pytest.mark.parametrize(
    ("priority", "urgency"),
    [
        (None, 3),
        ("u=0", 0),
        ("i, u=7", 7),
        ("u=1;x=2", 1),
        ("u=8", 3),
        ("u=-1", 3),
        ("u", 3),
        ("=,;u=1,,", 3),
        ("u=5, u=2", 2),
        ("u=(1 2)", 3),
        ("u=1.0", 3),
        ('u="1"', 3),
        ("u=1, U", 3),
        ("u=\u0665", 3),
    ],
)
def test_priority_is_read_and_its_mistakes_ignored(priority: str | None, urgency: int) -> None:
    assert read_urgency(priority) == urgency


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("k", "k"),
        ('"k"', "k"),
        ('"k"; v=1', "k"),
        ('"8e03978e-40d5-43e8-bc93-6894a57f9324"', "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (r'"a \"quoted\" \\ word"', r'a "quoted" \ word'),
        ("two words", "two words"),
        ('a"b', 'a"b'),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
        ("", None),
        ('""', None),
        ('"', None),
        ('"k', None),
        ('"k"x', None),
        ('"a", "b"', None),
        (r'"\x"', None),
        ('"tab\t"', None),
        ("\u00e9", None),
        ("x" * 256, None),
        (f'"{"x" * 256}"', None),
    ],
)
def test_a_key_is_the_same_with_and_without_quotation_marks(sent: str, key: str | None) -> None:
    assert read_idempotency_key(sent) == key
