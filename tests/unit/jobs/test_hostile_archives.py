"""What hostile archives become, and what they cost: no more than two seconds, or some hundred megabytes."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from difuso.jobs.trainings.archives import DatasetRefused, zip_entries
from difuso.jobs.trainings.checking import Summary, make_dataset
from tests.hostile_archives import LEFT_OUT, REFUSED, SECRET, TAKEN
from tests.icons import icons

SECONDS, MEGABYTES = 2.0, 500
STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def megabytes(field: str) -> float:
    lines = STATUS.read_text().splitlines() if STATUS.exists() else [f"{field}: 0 kB"]
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


@contextmanager
def cheap() -> Iterator[None]:
    """Holds what happens inside to the bounds, those of memory on Linux."""
    if PEAK.exists():
        PEAK.write_text("5")
    before, began = megabytes("VmRSS"), time.process_time()
    yield
    assert time.process_time() - began < SECONDS
    assert megabytes("VmHWM") - before < MEGABYTES


def made(content: bytes, folder: Path) -> Summary:
    (sent := folder / "sent.zip").write_bytes(content)
    with cheap():
        return make_dataset(zip_entries(sent), None, folder / "clean.zip")


@pytest.mark.parametrize("case", REFUSED)
def test_an_archive_is_refused(case: str, tmp_path: Path) -> None:
    make, word = REFUSED[case]
    content = make()
    with pytest.raises(DatasetRefused, match=word):
        made(content, tmp_path)


@pytest.mark.parametrize("case", LEFT_OUT)
def test_only_the_entry_is_left_out(case: str, tmp_path: Path) -> None:
    make, word = LEFT_OUT[case]
    summary = made(make(), tmp_path)
    (left_out,) = summary.left_out
    assert word in left_out.reason
    assert left_out.name.isascii()
    assert left_out.name.isprintable()
    assert set(zipfile.ZipFile(tmp_path / "clean.zip").namelist()) <= icons().keys()
    assert summary.count >= len(icons()) - 1


@pytest.mark.parametrize("case", TAKEN)
def test_of_an_entry_only_the_pixels_are_taken(case: str, tmp_path: Path) -> None:
    assert made(TAKEN[case](), tmp_path).left_out == ()
    with zipfile.ZipFile(tmp_path / "clean.zip") as clean:
        (name,) = set(clean.namelist()) - icons().keys()
        content = clean.read(name)
    assert Path(name).stem == "last"
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (40, 40), {})
    assert SECRET not in content
