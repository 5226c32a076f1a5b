"""Pictures from strangers: what is refused, what it costs, and that the rest has the right pixels."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from difuso.jobs.errors import AnimatedImage, BadImage, ImageRefused, ImageTooComplex, ImageTooLarge, UnsupportedFormat
from difuso.jobs.images.containers import MAX_CHUNKS, MAX_SCANS, MAX_SEGMENTS
from difuso.jobs.images.fitting import How, fit, fit_mask, in_eight_bits, read_file
from difuso.model.shape import Shape
from tests.pictures import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    PNG_MAGIC,
    RGBA,
    black_png,
    chunk,
    exif,
    header,
    png,
    saved,
    segment,
    with_scans,
    with_segments,
)

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
# Six colours, so that every way of turning them shows: 3 wide, 2 high.
CORNERS = Image.new("RGB", (3, 2))
CORNERS.putdata([RED, GREEN, BLUE, WHITE, BLACK, (255, 255, 0)])
SMALL_PNG = saved(CORNERS, "PNG")
BLOCKS = CORNERS.resize((48, 32), Image.Resampling.NEAREST)
SMALL_JPEG = saved(BLOCKS, "JPEG")
PROGRESSIVE = saved(BLOCKS, "JPEG", progressive=True)
ZEROS = zlib.compress(bytes(80_000_000), 9)


def image_of(data: bytes) -> Image.Image:
    """The image of a file that is no array."""
    image = read_file(data)
    assert isinstance(image, Image.Image)
    return image


def pixels(data: bytes) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in in_eight_bits(image_of(data)).convert("RGB").get_flattened_data()]  # type: ignore[arg-type]


OTHER_FORMATS = {
    "empty": b"",
    "text": b"hello, I am a picture",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "gif": saved(CORNERS, "GIF"),
    "bmp": saved(CORNERS, "BMP"),
    "webp": b"RIFF\x1a\0\0\0WEBPVP8L\r\0\0\0/\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0",
    "almost a png": PNG_MAGIC[:7] + b"\r",
    "almost a jpeg": b"\xff\xd8\x00",
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_what_is_neither_png_nor_jpeg_is_refused_by_its_first_bytes(name: str) -> None:
    with pytest.raises(UnsupportedFormat):
        read_file(OTHER_FORMATS[name])


TOO_LARGE = {
    "a bomb by its header": header(30000, 30000),
    "one column": header(1, 65535),
    "the largest number": header(2**31 - 1, 2**31 - 1),
    "a row too many": black_png(2048, 2049, bits=1, colour=GREY),
    "jpeg": SMALL_JPEG.replace(struct.pack(">HH", 32, 48), struct.pack(">HH", 65500, 65500)),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_too_many_pixels_are_refused(name: str) -> None:
    data = TOO_LARGE[name]
    with pytest.raises(ImageTooLarge):
        read_file(data if data.endswith((b"IEND\xaeB`\x82", b"\xff\xd9")) else data + EMPTY_END)


EMPTY_END = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_the_largest_picture_is_read() -> None:
    assert image_of(black_png(2048, 2048, bits=1, colour=GREY)).size == (2048, 2048)


BAD = {
    "no pixels": header(0, 5) + EMPTY_END,
    "no header": PNG_MAGIC + chunk(b"IEND", b""),
    "a depth that does not exist": header(3, 2, bits=3) + EMPTY_END,
    "no data": header(3, 2) + EMPTY_END,
    "no palette": png([[0, 1]], colour=PALETTE),
    "jpeg without tables": b"\xff\xd8" + SMALL_JPEG[SMALL_JPEG.index(b"\xff\xc0") :].replace(b"\xff\xc4", b"\xff\xfe"),
    "12 bits": SMALL_JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "lossless": SMALL_JPEG.replace(b"\xff\xc0\x00\x11", b"\xff\xc3\x00\x11"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_pictures_are_refused_without_a_word_of_the_decoder(name: str) -> None:
    with pytest.raises(BadImage) as caught:
        read_file(BAD[name])
    assert caught.value.detail is None


@pytest.mark.parametrize("data", [SMALL_PNG, SMALL_JPEG, PROGRESSIVE], ids=["png", "jpeg", "progressive"])
def test_a_picture_that_breaks_off_anywhere_is_refused(data: bytes) -> None:
    for end in range(len(data)):
        with pytest.raises((BadImage, UnsupportedFormat)):
            read_file(data[:end])


@pytest.mark.filterwarnings("error")
@given(st.sampled_from([SMALL_JPEG, PROGRESSIVE, SMALL_PNG]), st.data())
def test_broken_files_give_a_picture_or_a_refusal_and_nothing_else(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with suppress(ImageRefused):
        assert image_of(bytes(damaged)).mode == "RGB"


TOO_COMPLEX = {
    "a scan too many": with_scans(PROGRESSIVE, MAX_SCANS + 1),
    "70000 scans": with_scans(PROGRESSIVE, 70_000),
    "empty chunks": png([[1]], colour=GREY, extra=chunk(b"teXt", b"") * MAX_CHUNKS),
    "empty pieces of data": png([[1]], colour=GREY, after=chunk(b"IDAT", b"") * MAX_CHUNKS),
    "empty segments": with_segments(SMALL_JPEG, segment(0xE5, b"") * MAX_SEGMENTS),
    "long tables": with_segments(SMALL_JPEG, segment(0xDB, bytes([0, *range(1, 65)]) * 1000) * 100),
}


@pytest.mark.parametrize("name", TOO_COMPLEX)
def test_files_that_are_made_to_take_long_are_refused(name: str) -> None:
    with pytest.raises(ImageTooComplex):
        read_file(TOO_COMPLEX[name])


def test_as_many_scans_as_are_allowed_are_read() -> None:
    assert pixels(with_scans(PROGRESSIVE, MAX_SCANS)) == pixels(PROGRESSIVE)


def test_animations_are_refused() -> None:
    frames = [CORNERS, CORNERS.transpose(Image.Transpose.ROTATE_180)]
    apng = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    mpo = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    for data in (apng, mpo):
        with pytest.raises(AnimatedImage):
            read_file(data)
    assert pixels(png([[7]], colour=GREY, extra=chunk(b"acTL", struct.pack(">II", 1, 0)))) == [(7, 7, 7)]


COSTLY = {
    "zTXt": chunk(b"zTXt", b"a\0\0" + ZEROS),
    "iCCP": chunk(b"iCCP", b"a\0\0" + ZEROS),
    "many texts": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 100,
    "a large directory": chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(2_000_000)),
    "short EXIF": chunk(b"eXIf", b"I") + chunk(b"eXIf", b""),
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_is_no_pixels_is_not_even_unpacked(name: str) -> None:
    assert pixels(png([[1, 2]], colour=GREY, extra=COSTLY[name])) == [(1, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize(
    "more",
    [
        segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0\xff\xff" + bytes(65_000)),
        segment(0xE1, b"Exif\0\0" + SMALL_JPEG + PROGRESSIVE),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000)) * 255,
        segment(0xED, b"Photoshop 3.0\x008BIM" + bytes(60)),
        segment(0xF0, b"\xff" * 65_000) * 100,
        b"\xff" * 1_000_000,
        segment(0xEC, b"Ducky") + b"junk",
    ],
    ids=["exif", "thumbnails", "xmp", "icc", "photoshop", "extension", "fill bytes", "junk"],
)
def test_what_a_jpeg_carries_besides_its_picture_is_passed_over(more: bytes) -> None:
    assert pixels(with_segments(SMALL_JPEG, more)) == pixels(SMALL_JPEG)
    assert pixels(SMALL_JPEG + more) == pixels(SMALL_JPEG)


HALF = 128  # of 255, laid on white: round(c * 128 / 255 + 127)
TABLE: dict[str, tuple[bytes, list[tuple[int, int, int]]]] = {
    "grey": (png([[0, 100, 255]], colour=GREY), [(0, 0, 0), (100, 100, 100), WHITE]),
    "grey of 1 bit": (png([[0, 1]], bits=1, colour=GREY), [BLACK, WHITE]),
    "grey of 16 bits": (
        png([[0, 128, 129, 300, 60000, 257 * 77, 65535]], bits=16, colour=GREY),
        [(0,) * 3, (0,) * 3, (1,) * 3, (1,) * 3, (233,) * 3, (77,) * 3, (255,) * 3],
    ),
    "grey with a transparent level": (
        png([[100, 101]], colour=GREY, extra=chunk(b"tRNS", b"\0\x64")),
        [WHITE, (101,) * 3],
    ),
    "grey and alpha": (
        png([[(100, 255), (100, 0), (100, HALF)]], colour=GREY_ALPHA),
        [(100,) * 3, WHITE, (177,) * 3],
    ),
    "16 bits and alpha": (
        png([[(0x64FF, 65535), (0x6400, 0)]], bits=16, colour=GREY_ALPHA),
        [(100,) * 3, WHITE],
    ),
    "RGB": (png([[(1, 2, 3), RED]]), [(1, 2, 3), RED]),
    "RGB with a transparent colour": (
        png([[(1, 2, 3), (1, 2, 4)]], extra=chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))),
        [WHITE, (1, 2, 4)],
    ),
    "RGBA": (
        png([[(200, 100, 0, 255), (200, 100, 0, 0), (200, 100, 0, HALF)]], colour=RGBA),
        [(200, 100, 0), WHITE, (227, 177, 127)],
    ),
    "palette": (png([[0, 1]], colour=PALETTE, extra=chunk(b"PLTE", bytes([1, 2, 3, *RED]))), [(1, 2, 3), RED]),
    "palette with a transparent colour": (
        png([[0, 1]], colour=PALETTE, extra=chunk(b"PLTE", bytes([1, 2, 3, *RED])) + chunk(b"tRNS", b"\xff\0")),
        [(1, 2, 3), WHITE],
    ),
    "palette with alpha": (
        png([[0, 1]], colour=PALETTE, extra=chunk(b"PLTE", bytes([200, 100, 0] * 2)) + chunk(b"tRNS", b"\x80\xff")),
        [(227, 177, 127), (200, 100, 0)],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_kind_of_png_has_the_right_colours(name: str) -> None:
    data, expected = TABLE[name]
    assert pixels(data) == expected


@pytest.mark.parametrize(("mode", "progressive"), [("L", True), ("RGB", False), ("CMYK", True), ("YCCK", False)])
def test_every_kind_of_jpeg_has_the_colours_that_pillow_sees_in_the_whole_file(mode: str, progressive: bool) -> None:
    data = saved(BLOCKS.convert("CMYK" if mode == "YCCK" else mode), "JPEG", progressive=progressive)
    if mode == "YCCK":
        adobe = data.index(b"Adobe")
        data = data[: adobe + 11] + b"\2" + data[adobe + 12 :]
    assert pixels(data) == list(Image.open(io.BytesIO(data)).convert("RGB").get_flattened_data())


@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_as_exif_says(orientation: int) -> None:
    message = exif(orientation, order="<>"[orientation // 2 % 2])
    as_png = SMALL_PNG.replace(SMALL_PNG[33:], chunk(b"eXIf", message) + SMALL_PNG[33:])
    as_jpeg = with_segments(SMALL_JPEG, segment(0xE1, b"Exif\0\0" + message))
    for data in (as_png, as_jpeg):
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        assert image_of(data).tobytes() == expected.tobytes()
        assert image_of(data).size == expected.size
    fitted = fit(read_file(as_png), shape=Shape.of(4, 3))
    assert (fitted.width, fitted.height) == ((2, 3) if orientation in (5, 6, 7, 8) else (3, 2))


def decoded(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


@given(st.binary(min_size=192, max_size=192), st.sampled_from(["cover", "contain"]))
def test_a_picture_of_the_right_size_keeps_its_pixels(content: bytes, how: How) -> None:
    colour = read_file(saved(Image.frombytes("RGB", (8, 8), content), "PNG"))
    grey = read_file(saved(Image.frombytes("L", (8, 8), content[:64]), "PNG"))
    assert decoded(fit(colour, shape=Shape.of(8, 3), how=how).file).tobytes() == content
    assert decoded(fit(grey, shape=Shape.of(8, 1), how=how).file).tobytes() == content[:64]
    mask = decoded(fit_mask(grey, shape=Shape.of(8, 1), how=how).file).convert("L").tobytes()
    assert mask == bytes(255 if level > 127 else 0 for level in content[:64])


def stripes(width: int, height: int) -> bytes:
    """Three of them: red, green, blue."""
    image = Image.new("RGB", (3, 1))
    image.putdata([RED, GREEN, BLUE])
    return saved(image.resize((width, height), Image.Resampling.NEAREST), "PNG")


def test_cover_cuts_the_same_off_both_sides() -> None:
    fitted = fit(read_file(stripes(36, 12)), shape=Shape.of(12, 3), how="cover")
    assert set(decoded(fitted.file).get_flattened_data()) == {GREEN}
    assert (fitted.width, fitted.height) == (36, 12)


def test_contain_shows_all_in_the_middle_of_white() -> None:
    image = decoded(fit(read_file(stripes(36, 12)), shape=Shape.of(36, 3), how="contain").file)
    assert [image.getpixel((6, y)) for y in (11, 12, 23, 24)] == [WHITE, RED, RED, WHITE]
    assert [image.getpixel((x, 18)) for x in (0, 12, 35)] == [RED, GREEN, BLUE]


@pytest.mark.parametrize(
    ("size", "how", "channels"),
    [((1, 1), "cover", 1), ((1, 7), "contain", 3), ((8192, 1), "cover", 3), ((1, 8192), "contain", 1)],
)
def test_any_shape_becomes_the_models(size: tuple[int, int], how: How, channels: int) -> None:
    picture = read_file(saved(Image.new("RGB", size, "black"), "PNG"))
    fitted = fit(picture, shape=Shape.of(64, channels), how=how)
    image = decoded(fitted.file)
    assert (image.size, image.mode) == ((64, 64), "L" if channels == 1 else "RGB")
    assert image.getpixel((31, 31)) in (0, BLACK)
    assert (fitted.width, fitted.height) == size
    assert decoded(fit_mask(picture, shape=Shape.of(64, 1), how=how).file).size == (64, 64)


def test_colours_become_luma_and_grey_stays_itself() -> None:
    picture = read_file(png([[RED, GREEN], [BLUE, (90, 90, 90)]]))
    grey = decoded(fit(picture, shape=Shape.of(2, 1)).file)
    assert list(grey.get_flattened_data()) == [76, 150, 29, 90]  # .299 R + .587 G + .114 B
    assert set(decoded(fit(read_file(png([[9]], colour=GREY)), shape=Shape.of(4, 3)).file).get_flattened_data()) == {
        (9, 9, 9)
    }


def test_what_is_made_holds_nothing_but_pixels_and_is_always_the_same() -> None:
    jpeg = with_segments(saved(BLOCKS, "JPEG", dpi=(300, 300)), segment(0xE1, b"Exif\0\0" + exif(1)))
    as_png = saved(CORNERS, "PNG", dpi=(300, 300), icc_profile=b"profile")
    keyed = png([[5, 6]], colour=GREY, extra=chunk(b"tRNS", b"\0\5"))
    for data in (jpeg, as_png, keyed):
        for make in (fit(read_file(data), shape=Shape.of(16, 1)), fit_mask(read_file(data), shape=Shape.of(16, 1))):
            kinds, position = [], 8
            while position < len(make.file):
                kinds.append(make.file[position + 4 : position + 8])
                position += 12 + int.from_bytes(make.file[position : position + 4], "big")
            assert kinds == [b"IHDR", b"IDAT", b"IEND"]
            assert make.sha256 == hashlib.sha256(make.file).hexdigest()
        assert fit(read_file(data), shape=Shape.of(16, 3)) == fit(read_file(data), shape=Shape.of(16, 3))


def test_a_mask_is_one_bit_and_a_pixel_is_missing_if_part_of_it_is() -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (9, 0, 10, 64))  # a scratch of one pixel
    small = decoded(fit_mask(read_file(saved(mask, "PNG")), shape=Shape.of(8, 1)).file)
    assert small.mode == "1"
    assert [small.getpixel((x, 3)) for x in range(4)] == [0, 255, 0, 0]
    large = decoded(fit_mask(read_file(saved(mask.crop((8, 0, 12, 4)), "PNG")), shape=Shape.of(8, 1)).file)
    assert [large.getpixel((x, 3)) for x in range(8)] == [0, 0, 255, 255, 0, 0, 0, 0]


def test_transparent_pixels_and_what_contain_adds_are_missing() -> None:
    clear = png([[(0, 0, 0, 0), (0, 0, 0, 255)]], colour=RGBA)
    small = decoded(fit_mask(read_file(clear), shape=Shape.of(2, 1), how="contain").file)
    assert [small.getpixel((x, 0)) for x in (0, 1)] == [255, 0]
    assert [small.getpixel((x, 1)) for x in (0, 1)] == [255, 255]


READ_ALL = """
import re, sys
from contextlib import suppress
from pathlib import Path
from difuso.jobs.errors import ImageRefused
from difuso.jobs.images.fitting import fit, read_file
from difuso.model.shape import Shape

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

before = peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    with suppress(ImageRefused):
        fit(read_file(path.read_bytes()), shape=Shape.of(64, 3))
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux' /proc for the peak of one process")
def test_no_bad_picture_takes_300_mb(tmp_path: Path) -> None:
    worst = {
        "rgba16": black_png(2048, 2048, bits=16, colour=RGBA),
        "grey16": black_png(2048, 2048, bits=16, colour=GREY, extra=chunk(b"tRNS", b"\0\0")),
        "palette": black_png(2048, 2048, colour=PALETTE, extra=chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(9))),
        "scans": with_scans(saved(Image.new("CMYK", (2048, 2048)), "JPEG", progressive=True), MAX_SCANS + 1),
        "data": header(1, 1) + chunk(b"IDAT", ZEROS) + chunk(b"IEND", b""),
        "thin": black_png(8192, 512),
    }
    costly = {name: png([[1]], colour=GREY, extra=extra) for name, extra in COSTLY.items()}
    large = {f"large {name}": data for name, data in TOO_LARGE.items()}
    for name, data in {**worst, **costly, **large, **TOO_COMPLEX, **BAD}.items():
        (tmp_path / name).write_bytes(data)
    process = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path)], capture_output=True, check=True, text=True
    )
    assert process.stderr == ""
    assert int(process.stdout) < 300
