"""Drawn icons, each unlike the others, as a person would send them: in an archive with a folder for each shape."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path
from unicodedata import normalize

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")


def icon(shape: str, seed: int, size: int = 40) -> Image.Image:
    drawn = random.Random(f"{shape} {seed}")
    image = Image.new("RGB", (size, size), (250, 250, drawn.randrange(200, 250)))
    colour = (drawn.randrange(30, 220), drawn.randrange(30, 220), drawn.randrange(30, 220))
    low, high = size * 0.2 + drawn.random() * 4, size * 0.8 - drawn.random() * 4
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((low, low, high, high), fill=colour)
    elif shape == "square":
        pen.rectangle((low, low, high, high), fill=colour)
    else:
        pen.polygon([(size / 2, low), (high, high), (low, high)], fill=colour)
    return image


def png(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def zipped_by_finder(files: dict[str, bytes]) -> bytes:
    """Returns an archive as macOS makes it: names in decomposed UTF-8, without the flag that says so."""
    content = bytearray(zipped({normalize("NFD", name): each for name, each in files.items()}))
    for magic, flags in ((b"PK\3\4", 7), (b"PK\1\2", 9)):  # where the flag is in the head of a file, and in the list
        at = content.find(magic)
        while at >= 0:
            content[at + flags] &= ~0x08
            at = content.find(magic, at + 1)
    return bytes(content)


def icons(count: int = 60) -> dict[str, bytes]:
    """Returns PNGs by name, a third of them in the folder of each shape."""
    return {f"{shape}/{seed}.png": png(icon(shape, seed)) for seed in range(count // 3) for shape in SHAPES}


def write_icons(path: Path, count: int = 60) -> Path:
    path.write_bytes(zipped(icons(count)))
    return path
