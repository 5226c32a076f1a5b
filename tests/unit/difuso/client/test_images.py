"""Images of a request: every form arrives as the same pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difuso.client.images import file_of
from difuso.jobs.images.fitting import fit, fit_mask, read_file
from difuso.jobs.images.npz import pixels_of
from difuso.model.shape import Shape

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4)])
def test_an_array_arrives_pixel_by_pixel(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape, np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file_of(pixels)))), pixels.squeeze())
    turned = pixels[::-1, ::-1]  # not contiguous
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file_of(turned)))), turned.squeeze())


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 2), (5, 4, 8)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_of_any_channels_and_bits_is_what_a_model_of_them_gets(shape: tuple[int, ...], dtype: Any) -> None:
    pixels = RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    channels = shape[2] if len(shape) == 3 else 1
    fitted = fit(read_file(file_of(pixels)), shape=Shape(channels, 5, 4))
    assert np.array_equal(pixels_of(fitted.file, planes=channels), pixels.reshape(5, 4, -1))


def test_16_bits_of_either_order_arrive() -> None:
    pixels = RNG.integers(0, 65536, (5, 4), np.uint16)
    image = Image.frombytes("I;16B", (4, 5), pixels.astype(">u2").tobytes())
    assert np.array_equal(np.load(io.BytesIO(file_of(image))), pixels)


def test_an_array_of_bool_is_a_mask() -> None:
    mask = RNG.random((8, 8)) < 0.5
    fitted = fit_mask(read_file(file_of(mask)), shape=Shape.of(8, 1))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(fitted.file))), mask)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr"])
def test_a_pillow_image_of_any_mode_is_a_file_that_the_server_reads(mode: str) -> None:
    image = Image.new(mode, (3, 2))
    read = read_file(file_of(image))
    assert isinstance(read, Image.Image)
    assert read.size == (3, 2)


def test_files_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"anything")
    assert file_of(path) == file_of(str(path)) == file_of(b"anything") == b"anything"
    with pytest.raises(FileNotFoundError):
        file_of("nowhere.png")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), "uint8"),
        (np.zeros((4, 4, 65), np.uint8), r"C 1 to 64, not \(4, 4, 65\)"),
        (np.zeros(4, np.uint8), r"not \(4,\)"),
        (Image.new("I", (4, 4)), "mode I have 32"),
        (Image.new("F", (4, 4)), "mode F have 32"),
        (7, "not int"),
    ],
)
def test_what_is_not_an_image_is_refused(image: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        file_of(image)
