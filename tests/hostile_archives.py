"""Archives that nobody sends in good faith, each with what should become of it."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

from PIL import Image

from tests.icons import icon, icons, png, zipped

SECRET = b"a place that nobody shall know"


def bomb(size: int = 400 << 20) -> bytes:
    return zipped({**icons(), "zeros.png": b"\x89PNG\r\n\x1a\n" + bytes(size)})


def with_entry(name: str, content: bytes | None = None) -> bytes:
    """A good archive with one more entry, by default a good picture."""
    return zipped({**icons(), name: png(icon("circle", 91)) if content is None else content})


def with_mode(name: str, mode: int) -> bytes:
    file = io.BytesIO(zipped(icons()))
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def many(count: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.png", b"")
    return file.getvalue()


def shared() -> bytes:
    """Entries that all hold the same bytes: a few kilobytes that unpack to gigabytes."""
    content = zipped({"a.png": bytes(4 << 20)})
    start, end = content.find(b"PK\1\2"), content.rfind(b"PK\5\6")
    entry, count, tail = content[start:end], 600, bytearray(content[end:])
    tail[8:12], tail[12:16] = struct.pack("<HH", count, count), struct.pack("<I", len(entry) * count)
    return content[:start] + entry * count + bytes(tail)


def end_with(at: int, value: bytes) -> bytes:
    """A good archive with other bytes in its end record."""
    content = bytearray(zipped(icons()))
    end = content.rfind(b"PK\5\6")
    content[end + at : end + at + len(value)] = value
    return bytes(content)


def directory_with(at: int, value: bytes) -> bytes:
    """A good archive with other bytes in the record of its last entry, as the list of entries has it."""
    content = bytearray(with_entry("last.png"))
    start = content.rfind(b"PK\1\2")
    content[start + at : start + at + len(value)] = value
    return bytes(content)


def torn_directory() -> bytes:
    content = zipped(icons())
    return content[: content.find(b"PK\1\2") + 100] + content[content.rfind(b"PK\5\6") :]


def zip64_size() -> bytes:
    """An entry whose record says that its size, of a terabyte, is in a field for large files."""
    file = io.BytesIO(zipped(icons()))
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo("last.png")
        archive.writestr(info, png(icon("circle", 91)))
        info.extra = struct.pack("<HHQQ", 1, 16, 1 << 40, 1 << 40)
        info.file_size = info.compress_size = 0xFFFFFFFF
        archive.filelist[-1] = info
    return file.getvalue()


def zip64_end() -> bytes:
    content = zipped(icons())
    at = content.rfind(b"PK\5\6")
    return content[:at] + b"PK\6\7" + bytes(16) + content[at:]


def wrong_sum() -> bytes:
    return zipped(icons()).replace(zlib.crc32(icons()["circle/1.png"]).to_bytes(4, "little"), b"\1\2\3\4", 2)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, size: tuple[int, int] = (40, 40)) -> bytes:
    """A PNG with chunks of ours after the first."""
    picture = png(icon("circle", 91))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    return picture[:8] + head + b"".join(chunks) + picture[33:]


def jpeg_with_exif(parts: int) -> bytes:
    picture, segment = png(icon("circle", 91), "JPEG"), b"Exif\0\0" + SECRET + bytes(65_000)
    return picture[:2] + (b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment) * parts + picture[2:]


def animated(form: str) -> bytes:
    file, frames = io.BytesIO(), [icon("circle", seed) for seed in (91, 92, 93)]
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def large(mode: str, form: str, side: int) -> bytes:
    return png(Image.new(mode, (side, side)), form)


# What is refused as a whole, each with a word of the reason.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (bomb, "would unpack"),
    "entries that share their bytes": (shared, "would unpack"),
    "21,000 files": (lambda: many(21_000), "is the most"),
    "100,000 files": (lambda: many(100_000), "without ZIP64"),
    "no archive": (lambda: b"hello, I am no archive", "no zip archive"),
    "nothing": (lambda: b"PK\5\6" + bytes(18), "There are 0 pictures"),
    "torn": (lambda: zipped(icons())[:-300], "no zip archive"),
    "a torn list of entries": (torn_directory, "damaged"),
    "a list of gigabytes": (lambda: end_with(12, b"\xff\xff\xff\x7f"), "is the most"),
    "a list elsewhere": (lambda: end_with(16, b"\xff\xff\xff\x7f"), "damaged"),
    "zeros alone": (lambda: bytes(1 << 20), "no zip archive"),
    "zip64 that contradicts": (zip64_end, "ZIP64"),
    "zip64 of a terabyte": (zip64_size, "would unpack"),
}
# The entries of an archive that are left out, each with a word of the reason.
LEFT_OUT: dict[str, tuple[Callable[[], bytes], str]] = {
    "a name that leads out": (lambda: with_entry("../../evil.png"), "leads out"),
    "an absolute name": (lambda: with_entry("/etc/evil.png"), "leads out"),
    "a drive": (lambda: with_entry("C:evil.png"), "characters"),
    "backslashes": (lambda: with_entry("a\\evil.png"), "characters"),
    "a name of two lines": (lambda: with_entry("a\nb.png"), "characters"),
    "a name that is read backwards": (lambda: with_entry("a\u202egnp.png"), "characters"),
    "an endless name": (lambda: with_entry("a" * 5000 + ".png"), "too long"),
    "a link": (lambda: with_mode("link.png", 0o120777), "link"),
    "a device": (lambda: with_mode("device.png", 0o020666), "no file"),
    "an encrypted entry": (lambda: directory_with(8, b"\1\0"), "encrypted"),
    "an unknown way of packing": (lambda: directory_with(10, b"\x63\0"), "damaged"),
    "more than it declares": (lambda: directory_with(24, b"\x20\0\0\0"), "damaged"),
    "a wrong checksum": (wrong_sum, "damaged"),
    "an archive in it": (lambda: with_entry("in.zip", bomb(1 << 20)), "archives in archives"),
    "a page": (lambda: with_entry("x.png", b"<svg onload=alert(1)>"), "no picture"),
    "an SVG": (lambda: with_entry("x.svg", b"<svg onload=alert(1)>"), "not that of a picture"),
    "HEIC": (lambda: with_entry("x.heic", b"\0\0\0\x18ftypheic" + bytes(100)), "HEIC"),
    "one pixel": (lambda: with_entry("x.png", png(Image.new("RGB", (1, 1)))), "1x1"),
    "a line": (lambda: with_entry("x.png", png(Image.new("RGB", (30_000, 1)))), "30000x1"),
    "a wide picture": (lambda: with_entry("x.png", png_with(size=(60_000, 60_000))), "60000x60000"),
    "a picture of nothing": (lambda: with_entry("x.webp", large("RGB", "WEBP", 5000)), "make it smaller"),
    "a large transparent picture": (lambda: with_entry("x.png", large("RGBA", "PNG", 5000)), "make it smaller"),
    "an animated GIF": (lambda: with_entry("x.gif", animated("GIF")), "not that of a picture"),
    "an animated GIF under another name": (lambda: with_entry("x.png", animated("GIF")), "no picture"),
    "an animated PNG": (lambda: with_entry("x.png", animated("PNG")), "animated"),
    "an animated WebP": (lambda: with_entry("x.webp", animated("WEBP")), "animated"),
    "colours for print": (lambda: with_entry("x.jpg", png(icon("circle", 9).convert("CMYK"), "JPEG")), "CMYK"),
}
# The entries that are taken, but nothing of them except their pixels.
TAKEN: dict[str, Callable[[], bytes]] = {
    "a picture and a page in one": lambda: with_entry("last.png", png_with() + SECRET + b"<script>alert(1)</script>"),
    "a name with a zero": lambda: with_entry("last.png\0.exe"),
    "16 bits": lambda: with_entry("last.png", png(Image.new("I;16", (40, 40), 9000))),
    "a colour profile that is a bomb": lambda: with_entry(
        "last.png", png_with(chunk(b"iCCP", b"x\0\0" + zlib.compress(SECRET + bytes(100 << 20))))
    ),
    "a text that is a bomb": lambda: with_entry(
        "last.png", png_with(chunk(b"zTXt", b"x\0\0" + zlib.compress(SECRET + bytes(100 << 20))))
    ),
    "13 MB of EXIF": lambda: with_entry("last.jpg", jpeg_with_exif(200)),
}
