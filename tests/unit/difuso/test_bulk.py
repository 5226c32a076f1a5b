"""Many images in one .npz file: what each chunk draws, what an interruption leaves, and what the file holds."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from difuso.commands.cli_kinds import SampleQuery
from difuso.drawing import bulk
from difuso.drawing.bulk import CHUNK, Bulk, bulk_of, make_file
from difuso.drawing.drawing import DrawingModel, Loaded
from difuso.errors import UserError
from difuso.evaluation.image_sets import from_path
from difuso.jobs.images.npz import NpzWriter
from difuso.jobs.params import MAX_IMAGES, MAX_SEED, SamplingParams
from difuso.jobs.per_image import classes_of, draw_seed, image_count, label_in_turn, one_or_several
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import Choice, Conditions, Number, Vector
from difuso.model.folders.config import SamplerDefaults
from difuso.model.folders.never import Never
from difuso.model.shape import Shape
from difuso.training.data.images import ImageArray

PARAMS = SamplingParams(n=1, steps=5, sampler="ddim", spacing="leading", eta=0.0, seed=100)
SIZE = 4
CONDITIONS: Conditions = {
    "age": Number(0, 100, null=True),
    "style": Vector(2, null=True),
    **{name: Choice(("none", "red"), null=True) for name in ("hair", "hat")},
}
NEVER: Never = ({"hair": ("red",), "hat": ("red",)},)


class Painter(DrawingModel):
    """A model whose image shows its seed and its class; it draws some runs, and then it breaks."""

    name = "painter"
    loaded = Loaded(version="ab" * 32, precision="float32")
    class_names = ("a", "b", "c")
    conditions, never = CONDITIONS, NEVER
    labels = 3
    defaults = SamplerDefaults()

    def __init__(self, *, channels: int = 3, runs: int = 1000, error: BaseException | None = None) -> None:
        self.shape = Shape.of(SIZE, channels)
        self.drawn: list[int] = []
        self._left = runs
        self._error = error or UserError("the server is gone")

    def settle(self, query: SamplingQuery) -> SamplingParams:
        turns = classes_of(query.label, self.class_names, count=self.labels, model=self.name)
        n = image_count(query.seed, query.label, n=query.n, turns=len(turns))
        images = {"n": n, "seed": one_or_several(query.seed or draw_seed()), "label": label_in_turn(turns, range(n))}
        return PARAMS.model_copy(update={**images, "steps": query.chosen.get("steps", 5)})

    def draw(
        self, runs: Iterable[SamplingParams], keep: Callable[[int, list[bytes]], None], files: Mapping[str, bytes]
    ) -> None:
        for number, run in enumerate(runs):
            if not self._left:
                raise self._error
            self._left -= 1
            images = images_of(run)
            self.drawn += [seed for seed, _ in images]
            keep(number, [png(pixels(seed, label, self.shape.channels)) for seed, label in images])


PAINTER: DrawingModel = Painter()


def images_of(run: SamplingParams) -> list[tuple[int, int | None]]:
    """The seed and the class of each image."""
    return [(run.seed_of(i), run.label_of(i)) for i in range(run.n)]


def pixels(seed: int, label: int | None, channels: int) -> ImageArray:
    values = [seed % 256, seed // 256 % 256, 255 if label is None else label] * SIZE * SIZE
    return np.array(values[: SIZE * SIZE * channels], np.uint8).reshape(SIZE, SIZE, channels)


def png(image: ImageArray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()


def query(n: int | None = None, **parameters: Any) -> SampleQuery:
    return SampleQuery(n=n, **parameters)


def read(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(path) as file:
        return {name: file[name] for name in file}


def test_image_i_has_the_value_of_its_own_number() -> None:
    ages = [float(age) for age in range(40)]
    asked = query(condition=["style:0.5,1", *(f"age:{age}" for age in ages)], label=["b"])
    bulk = bulk_of(asked, PAINTER, kept_seed=5)
    runs = [bulk.run(chunk) for chunk in bulk.chunks]
    assert [run.conditions_of(i) for run in runs for i in range(run.n)] == [
        {"style": (0.5, 1.0), "age": age} for age in ages
    ]
    assert bulk.facts()["conditions"] == {"style": [[0.5, 1.0]], "age": ages}


@given(st.integers(1, 300), st.integers(0, 5), st.integers(0, MAX_SEED - 300))
def test_image_i_has_seed_and_class_of_its_own_number(count: int, classes: int, seed: int) -> None:
    params = PARAMS.model_copy(update={"seed": seed})
    whole = Bulk(PAINTER, count, params, tuple(range(classes)))
    runs = [SamplingParams.model_validate(whole.run(chunk).model_dump()) for chunk in whole.chunks]
    drawn = [image for run in runs for image in images_of(run)]
    assert drawn == [(seed + i, i % classes if classes else None) for i in range(count)]
    assert max(run.n for run in runs) <= CHUNK <= MAX_IMAGES


@given(st.lists(st.integers(0, MAX_SEED), min_size=2, max_size=64), st.booleans())
def test_several_seeds_and_classes_are_those_of_the_images(seeds: list[int], several: bool) -> None:
    labels = [str(seed % 3) for seed in seeds] if several else ["b"]
    whole = bulk_of(query(seed=seeds, label=labels), PAINTER)
    drawn = [image for chunk in whole.chunks for image in images_of(whole.run(chunk))]
    assert drawn == [(seed, seed % 3 if several else 1) for seed in seeds]
    assert whole.label_array() is not None
    assert [*map(int, whole.label_array())] == [label for _, label in drawn]  # type: ignore[arg-type]


def test_the_file_is_what_adms_evaluator_reads(tmp_path: Path) -> None:
    out = make_file(tmp_path / "samples.npz", query(70, seed=100, label="all"), Painter())
    content = read(out)
    assert list(content) == ["arr_0", "arr_1"]
    assert content["arr_0"].shape == (70, SIZE, SIZE, 3)
    assert content["arr_1"].tolist() == [i % 3 for i in range(70)]
    assert (content["arr_0"].dtype, content["arr_1"].dtype) == (np.uint8, np.int64)
    for i, image in enumerate(content["arr_0"]):
        assert np.array_equal(image, pixels(100 + i, i % 3, 3))
    assert np.array_equal(from_path(out).load(), content["arr_0"])
    assert [*tmp_path.iterdir()] == [out]


def test_all_is_one_image_of_each_class_and_lists_are_one_image_each(tmp_path: Path) -> None:
    assert read(make_file(tmp_path / "all.npz", query(label="all"), Painter()))["arr_1"].tolist() == [0, 1, 2]
    several = read(make_file(tmp_path / "several.npz", query(seed=[9, 7], label=["c", "a"]), Painter()))
    assert several["arr_1"].tolist() == [2, 0]
    assert np.array_equal(several["arr_0"], [pixels(9, 2, 3), pixels(7, 0, 3)])


def test_one_class_and_none_and_grey(tmp_path: Path) -> None:
    one = read(make_file(tmp_path / "one.npz", query(5, seed=1, label="2"), Painter()))
    assert one["arr_1"].tolist() == [2] * 5
    grey = make_file(tmp_path / "grey.npz", query(5, seed=1), Painter(channels=1))
    content = read(grey)
    assert list(content) == ["arr_0"]
    assert content["arr_0"].shape == (5, SIZE, SIZE, 1)
    assert np.array_equal(from_path(grey).load(), content["arr_0"].repeat(3, axis=3))


def test_equal_requests_give_equal_bytes_whatever_the_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for chunk in (CHUNK, 7, 1):
        monkeypatch.setattr(bulk, "CHUNK", chunk)
        files.append(make_file(tmp_path / f"{chunk}.npz", query(50, seed=3, label="all"), Painter()).read_bytes())
    assert files == files[:1] * 3
    with zipfile.ZipFile(io.BytesIO(files[0])) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("error", [UserError("the server is gone"), KeyboardInterrupt()])
def test_the_same_command_goes_on_with_the_same_drawn_seed(tmp_path: Path, error: BaseException) -> None:
    out, count = tmp_path / "samples.npz", 4 * CHUNK + 5
    asked = query(count, label="all")
    broken = Painter(runs=2, error=error)
    with pytest.raises(type(error)) as caught:
        make_file(out, asked, broken)
    if isinstance(error, UserError):
        assert f"the server is gone. {2 * CHUNK} of {count} images are kept" in str(caught.value)
    assert not out.exists()
    (tmp_path / "samples.npz.parts" / ".000002.npy-0123").write_bytes(b"half a part of a command that was killed")
    seed = json.loads((tmp_path / "samples.npz.parts" / "request.json").read_text())["seed"]
    second = Painter()
    make_file(out, asked, second)
    assert broken.drawn + second.drawn == [seed + i for i in range(count)]
    whole = make_file(tmp_path / "whole.npz", query(count, label="all", seed=seed), Painter())
    assert out.read_bytes() == whole.read_bytes()


def test_a_drawn_seed_is_another_each_time(tmp_path: Path) -> None:
    assert len({bulk_of(query(2), PAINTER).params.seed for _ in range(5)}) == 5


def test_parts_of_another_request_are_refused_and_kept(tmp_path: Path) -> None:
    out, folder = tmp_path / "samples.npz", tmp_path / "samples.npz.parts"
    with pytest.raises(UserError):
        make_file(out, query(100, seed=1), Painter(runs=1))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    others = [query(100, seed=2), query(101, seed=1), query(100, seed=1, steps=6), query(100, seed=1, label="1")]
    newer, half = Painter(), Painter()
    newer.loaded = replace(newer.loaded, version="cd" * 32)
    half.loaded = replace(half.loaded, precision="bfloat16")
    for asked, model in [
        *((other, Painter()) for other in others),
        (query(100, seed=1), newer),
        (query(100, seed=1), half),
    ]:
        with pytest.raises(UserError, match="of another request: repeat that one"):
            make_file(out, asked, model)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_request_of_which_nothing_is_there_binds_nobody(tmp_path: Path) -> None:
    out, folder = tmp_path / "samples.npz", tmp_path / "samples.npz.parts"
    with pytest.raises(UserError, match=r"^steps: must be less$"):
        make_file(out, query(100, seed=1), Painter(runs=0, error=UserError("steps: must be less")))
    assert not folder.exists()
    with pytest.raises(KeyboardInterrupt):
        make_file(out, query(100, seed=1), Painter(runs=0, error=KeyboardInterrupt()))
    assert folder.exists()
    assert len(read(make_file(out, query(3, seed=2), Painter()))["arr_0"]) == 3


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    out, folder = tmp_path / "samples.npz", tmp_path / "samples.npz.parts"
    out.write_bytes(b"of last week")
    with pytest.raises(UserError, match="exists: delete it, or name another file"):
        make_file(out, query(3), Painter())
    out.unlink()
    folder.mkdir()
    (folder / "mine.txt").write_text("notes")
    with pytest.raises(UserError, match="holds images of another request"):
        make_file(out, query(3), Painter())
    (folder / "request.json").write_text("[")
    with pytest.raises(UserError, match=r"request\.json cannot be read"):
        make_file(out, query(3), Painter())
    assert (folder / "mine.txt").read_text() == "notes"


def test_what_was_never_seen_together_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    query = SampleQuery.model_validate({"n": 70, "seed": [1], "condition": ["hair:red", "hat:red"]})
    make_file(tmp_path / "all.npz", query, Painter())
    assert caplog.messages == ["painter has never seen hair red with hat red: the images may show something else"]


def test_a_full_disk_ends_the_command_and_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "samples.npz"

    def write(path: Path, content: bytes) -> None:
        if path.name == "000002.npy":
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as full:
        full.setattr(bulk, "write_whole", write)
        with pytest.raises(UserError, match=r"samples\.npz: No space left on device"):
            make_file(out, query(5 * CHUNK, seed=1), Painter())
    again = Painter()
    make_file(out, query(5 * CHUNK, seed=1), again)
    assert len(again.drawn) == 3 * CHUNK


def test_mistakes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--seed must be at most {MAX_SEED - 9} for 10 images"):
        make_file(tmp_path / "a.npz", query(10, seed=MAX_SEED - 8), Painter())
    without = Painter()
    without.labels = 0
    with pytest.raises(UserError, match="label: Input should be omitted: painter has no classes"):
        make_file(tmp_path / "a.npz", query(10, label="all"), without)
    assert [*tmp_path.iterdir()] == []


def test_a_file_is_written_piece_by_piece(tmp_path: Path) -> None:
    shape, rows = (64, 256, 1024), 4

    def pieces() -> Iterator[ImageArray]:
        for first in range(0, shape[0], rows):
            yield np.full((rows, *shape[1:]), first, np.uint8)

    tracemalloc.start()
    with NpzWriter(tmp_path / "a.npz") as file:
        file.add("a", shape, np.dtype(np.uint8), pieces())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < np.prod(shape) / 4
    assert np.array_equal(read(tmp_path / "a.npz")["a"], np.concatenate([*pieces()]))


def test_a_server_draws_for_whoever_has_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "import difuso.cli, difuso.drawing.bulk, difuso.drawing.remote_drawing; "
        "from difuso.errors import user_errors; user_errors().__enter__()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
