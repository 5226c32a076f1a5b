"""What is sent in other forms than 8-bit PNGs and JPEGs: 16 bits of grey, arrays of any channels."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difuso.jobs.errors import BadImage, ImageRefused, ImageTooLarge
from difuso.jobs.images.fitting import How, fit, fit_mask, read_file
from difuso.jobs.images.noise_estimate import estimate_sigma
from difuso.jobs.images.npz import pixels_of
from difuso.jobs.images.sequences import fit_sequence
from difuso.model.conditions import VectorSequence
from difuso.model.images import from_file
from difuso.model.shape import Shape
from tests.pictures import saved

RNG = np.random.default_rng(5)
DEEP = RNG.integers(0, 65536, (8, 12), dtype=np.uint16)
GREY_SHAPE, FOUR = Shape(1, 8, 12), Shape(4, 8, 12)

Pixels = np.ndarray[Any, Any]


def npy(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def decoded(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)))


# 16 bits


@pytest.mark.parametrize("how", ["cover", "contain"])
def test_16_bits_of_this_size_stay_as_they_are(how: How) -> None:
    sent = saved(Image.fromarray(DEEP), "PNG")
    fitted = decoded(fit(read_file(sent), shape=GREY_SHAPE, how=how).file)
    assert fitted.dtype == np.uint16
    assert np.array_equal(fitted, DEEP)


def test_16_bits_are_scaled_in_between_the_levels_of_8() -> None:
    """A ramp of less than one level of 8 bits stays a ramp, and white margins are white."""
    ramp = np.tile(np.linspace(30_000, 30_200, 24).astype(np.uint16), (16, 1))
    fitted = decoded(fit(read_file(saved(Image.fromarray(ramp), "PNG")), shape=GREY_SHAPE).file)
    assert (np.diff(fitted[4].astype(int)) > 0).all()
    assert np.abs(fitted.mean() - ramp.mean()) < 2
    framed = decoded(fit(read_file(saved(Image.fromarray(ramp), "PNG")), shape=Shape(1, 12, 12), how="contain").file)
    assert (framed[:2] == 65535).all()
    assert (framed[2:10] < 31_000).all()


def test_16_bits_are_8_for_a_model_of_colours_and_for_a_mask() -> None:
    image = read_file(saved(Image.fromarray(DEEP), "PNG"))
    expected = np.floor(DEEP / 257 + 0.5)
    assert np.array_equal(decoded(fit(image, shape=Shape(3, 8, 12)).file), np.repeat(expected[..., None], 3, axis=2))
    assert np.array_equal(decoded(fit_mask(image, shape=GREY_SHAPE).file), expected >= 128)


@pytest.mark.parametrize("sigma", [0.3, 20.0])
def test_noise_below_a_level_of_8_bits_is_estimated(sigma: float) -> None:
    smooth = np.linspace(60, 190, 64)[None, :] + np.linspace(-20, 20, 64)[:, None]
    noisy = ((smooth + RNG.normal(0, sigma, (64, 64))) * 257).round().clip(0, 65535).astype(np.uint16)
    assert estimate_sigma(saved(Image.fromarray(noisy), "PNG")) == pytest.approx(sigma, rel=0.1)
    planes = np.concatenate([noisy, noisy.T, noisy[::-1]])
    assert estimate_sigma(saved(Image.fromarray(planes), "PNG"), planes=3) == pytest.approx(sigma, rel=0.1)


# Arrays


@pytest.mark.parametrize(("channels", "dtype"), [(2, "u1"), (4, "<u2"), (64, ">u2")])
def test_an_array_of_a_models_channels_becomes_planes(channels: int, dtype: str) -> None:
    shape = Shape(channels, 8, 12)
    pixels = RNG.integers(0, 256, shape.hwc).astype(dtype)
    for sent in (npy(pixels), npy(np.asfortranarray(pixels))):
        fitted = fit(read_file(sent), shape=shape)
        assert (fitted.width, fitted.height) == (12, 8)
        assert decoded(fitted.file).shape == (channels * 8, 12)
        assert np.array_equal(pixels_of(fitted.file, planes=channels), pixels)


def test_an_array_of_grey_or_colours_is_an_image() -> None:
    grey, colours = RNG.integers(0, 256, (8, 12), dtype=np.uint8), RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    assert np.array_equal(decoded(fit(read_file(npy(grey)), shape=GREY_SHAPE).file), grey)
    assert np.array_equal(decoded(fit(read_file(npy(colours)), shape=Shape(3, 8, 12)).file), colours)
    assert np.array_equal(decoded(fit(read_file(npy(DEEP)), shape=GREY_SHAPE).file), DEEP)
    wide = colours.astype(np.uint16) * 257
    assert np.array_equal(decoded(fit(read_file(npy(wide)), shape=Shape(3, 8, 12)).file), colours)


@pytest.mark.parametrize(
    ("data", "shape", "detail"),
    [
        (saved(Image.new("RGBA", (12, 8)), "PNG"), FOUR, r"\.npy file of shape \(H, W, 4\)"),
        (npy(np.zeros((8, 12, 5), np.uint8)), FOUR, "the model's images have 4 channels"),
        (npy(np.zeros((8, 12, 4), np.uint8)), Shape(3, 8, 12), "The image should be grey or RGB"),
        (npy(np.zeros((8, 12, 4), np.float32)), FOUR, "uint8 or uint16, not float32"),
        (npy(np.zeros((8, 12, 65), np.uint8)), FOUR, "one image"),
    ],
)
def test_other_channels_and_numbers_are_refused(data: bytes, shape: Shape, detail: str) -> None:
    with pytest.raises(ImageRefused, match=detail):
        fit(read_file(data), shape=shape)


def test_equal_sequences_are_equal_bytes_whatever_their_type_and_order() -> None:
    text, values = VectorSequence(4, 3), np.array([[0.5, -1, 0, 2], [8, 0.25, -0.0, 1]])
    forms = [*(values.astype(kind) for kind in ("<f2", ">f4", "<f8")), np.asfortranarray(values), values + 0]
    first, *others = (fit_sequence(read_file(npy(each)), condition=text) for each in forms)
    assert (first.width, first.height) == (4, 2)
    assert others == [first] * 4
    read = from_file(first.file).numpy()
    assert read.dtype == np.float32
    assert np.array_equal(read, values)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (npy(np.zeros((4, 4))), r"1 to 3 vectors of 4 numbers .*, and its shape is \(4, 4\)"),
        (npy(np.zeros((2, 5))), "1 to 3 vectors of 4 numbers"),
        (npy(np.full((2, 4), np.inf, np.float16)), "1 to 3 vectors of 4 numbers"),
        (npy(np.zeros((2, 4), np.int64)), "float16, float32 or float64, not int64"),
        (npy(np.zeros((2, 4), np.uint8)), "The file should be an array as .npy, 1 to 3 vectors of 4 numbers"),
        (saved(Image.new("L", (4, 2)), "PNG"), "The file should be an array as .npy"),
    ],
)
def test_what_is_no_sequence_is_refused(data: bytes, detail: str) -> None:
    with pytest.raises(ImageRefused, match=detail):
        fit_sequence(read_file(data), condition=VectorSequence(4, 3))


HEAD = npy(np.zeros((8, 12, 4), np.uint8))


def header(shape: str) -> bytes:
    """An array of bytes without its bytes, with a shape that NumPy would not write."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (HEAD[:-1], BadImage),
        (HEAD.replace(b"(8, 12, 4)", b"(9999, 9) "), ImageTooLarge),
        (HEAD.replace(b"'|u1'", b"'|O' "), ImageRefused),
        (HEAD.replace(b"{'descr'", b"[[[[[[[["), BadImage),
        (header("(True, True, 3)") + bytes(3), BadImage),
        (header(f"(0x1{'0' * 3800}, 2, 3)"), BadImage),
        (header("(-1, -4)").replace(b"|u1", b"<f4") + bytes(16), BadImage),
        (header(f"({'1,' * 100})").replace(b"|u1", b"<f4") + bytes(4), BadImage),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(data: bytes, error: type[ImageRefused]) -> None:
    with pytest.raises(error):
        read_file(data)
