"""The arrays of a finished job, and .npz files whose bytes follow from their arrays."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difuso.jobs.images.npz import NpzWriter, encode_npz, image_arrays
from difuso.jobs.params import SamplingParams
from tests.pictures import saved

PARAMS = SamplingParams(n=2, steps=5, sampler="ddim", spacing="leading", eta=0.0, seed=100)


def test_images_and_classes_are_named_as_in_adms_files() -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    pngs = [saved(Image.fromarray(each), "PNG") for each in pixels]
    found = image_arrays(pngs, PARAMS.model_copy(update={"label": 7}))
    assert [*found] == ["arr_0", "arr_1"]
    assert np.array_equal(found["arr_0"], pixels)
    assert found["arr_0"].dtype == np.uint8
    assert (found["arr_1"].dtype, found["arr_1"].tolist()) == (np.int64, [7, 7])
    assert image_arrays(pngs, PARAMS.model_copy(update={"label": (2, 0)}))["arr_1"].tolist() == [2, 0]


def test_grey_images_have_one_channel_and_no_class_is_no_array() -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    found = image_arrays([saved(Image.fromarray(grey), "PNG")], PARAMS)
    assert [*found] == ["arr_0"]
    assert found["arr_0"].shape == (1, 4, 5, 1)


ARRAYS = np.zeros((0, 3)), np.arange(6, dtype=np.float32).reshape(2, 3).T, np.array([1.5, -1])


@pytest.mark.parametrize("array", ARRAYS)
def test_numpy_reads_what_is_written_and_equal_arrays_are_equal_bytes(
    array: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    data = encode_npz({"a": array}, {"b": array[:1]})
    with np.load(io.BytesIO(data)) as content:
        assert content.files == ["a", "b"]
        assert np.array_equal(content["a"], array)
        assert content["a"].dtype == array.dtype
        assert encode_npz(content) == data
    with NpzWriter(tmp_path / "a.npz") as file:
        for name, each in (("a", array), ("b", array[:1])):
            file.add(name, each.shape, each.dtype, [each])
    assert (tmp_path / "a.npz").read_bytes() == data
