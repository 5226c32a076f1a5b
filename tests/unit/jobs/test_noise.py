"""Noise that a request sends: what is noise of a model, how many images it makes, and how jobs and recipes name it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.contract import Job, new_job
from difuso.jobs.errors import ImageRefused, RequestRefused
from difuso.jobs.image_recipe import job_of, recipe
from difuso.jobs.images.fitting import fit, read_file
from difuso.jobs.images.noise import MAX_NOISE, fit_noise, noises_in
from difuso.jobs.images.npz import encode_npy
from difuso.jobs.kinds import KINDS
from difuso.model.folders.config import ModelConfig
from difuso.model.networks.configs import UNetConfig
from difuso.model.shape import Shape

SHAPE = Shape(4, 8, 12)
NETWORK = UNetConfig(in_channels=4, out_channels=4, num_classes=3)
CONFIG = ModelConfig(NETWORK, image_size=(8, 12), channels=4, classes=("cat", "dog", "owl"))
MODEL = ModelInfo("m", CONFIG, parameters=1, version="0" * 64)
NOISE = np.random.default_rng(0).standard_normal((3, *SHAPE.hwc)).astype(np.float32)

Array = np.ndarray[Any, Any]


def job(noise: Array | None = None, **query: Any) -> Job:
    images = {} if noise is None else {"noise": fit_noise(read_file(encode_npy(noise)), shape=SHAPE)}
    kind = KINDS["generate"]
    return new_job("m", kind.prepare(kind.query.model_validate(query), MODEL, images))


@pytest.mark.parametrize("sent", [NOISE, NOISE.astype(">f8"), np.asfortranarray(NOISE)])
def test_equal_noise_has_one_hash_however_it_was_written(sent: Array) -> None:
    """That of `np.save` of the noise of each image."""
    found = noises_in(fit_noise(read_file(encode_npy(sent)), shape=SHAPE))
    assert [each.file for each in found] == [encode_npy(each) for each in NOISE]
    assert [each.sha256 for each in found] == [hashlib.sha256(encode_npy(each)).hexdigest() for each in NOISE]
    assert noises_in(fit_noise(NOISE[1], shape=SHAPE)) == found[1:2]
    half = NOISE.astype(np.float16)
    assert noises_in(fit_noise(read_file(encode_npy(half)), shape=SHAPE))[0].file == encode_npy(
        half[0].astype(np.float32)
    )


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (NOISE.transpose(0, 3, 1, 2), r"shape \(H, W, C\) or .* is \(8, 12, 4\), not \(3, 4, 8, 12\)"),
        (NOISE[:, None, 0], r"not \(3, 1, 12, 4\)"),
        (np.zeros((65, *SHAPE.hwc)), "1 to 64 images, not 65"),
        (NOISE * [[[[1, 1, 1, np.nan]]]], "finite"),
        (np.full(SHAPE.hwc, 1e200), "finite"),
        (NOISE * 80, "unit variance and lie in -16 to 16, .* divide noise in units of sigma"),
        (np.zeros(SHAPE.hwc, np.int64), "not int64"),
        (np.zeros(SHAPE.hwc, np.uint8), r"\.npy file of float32"),
    ],
)
def test_what_is_no_noise_of_the_model_is_refused(sent: Array, message: str) -> None:
    with pytest.raises(ImageRefused, match=message):
        fit_noise(read_file(encode_npy(sent)), shape=SHAPE)


def test_a_picture_is_no_noise_and_noise_no_picture() -> None:
    with pytest.raises(ImageRefused, match="float32"):
        fit_noise(Image.new("L", (12, 8)), shape=SHAPE)
    with pytest.raises(ImageRefused, match="uint8 or uint16"):
        fit(NOISE[0], shape=SHAPE)


def test_a_file_that_is_cut_off_or_goes_on_is_refused() -> None:
    for damaged in (encode_npy(NOISE)[:-1], encode_npy(NOISE) + b"!"):
        with pytest.raises(ImageRefused):
            read_file(damaged)


def test_the_bound_is_beyond_whatever_a_generator_draws() -> None:
    """The tail of NumPy's ziggurat is r - log1p(-u) / r where -2 log1p(-v) exceeds the square of the second term."""
    r, largest = 3.6541528853610088, -np.log(2.0**-53)
    assert r + min(largest / r, np.sqrt(2 * largest)) < MAX_NOISE < 80


def test_there_are_as_many_images_as_noises() -> None:
    assert job(NOISE).params.n == job(NOISE, n=3).params.n == job(NOISE, seed=[1, 2, 3]).params.n == 3
    assert job(NOISE[0], n=5).params.n == job(NOISE[:1], label=["0"] * 5).params.n == 5
    assert job(NOISE[0]).params.n == 1
    assert job(NOISE, label="all").params.label == (0, 1, 2)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"n": 4}, "n: Input should be the number of noises, 3, or omitted"),
        ({"seed": [1, 2]}, "noise: Input should be one, or one for each of the 2 seeds"),
        ({"label": ["0", "1"]}, "noise: Input should be one, or one for each of the 2 labels"),
    ],
)
def test_another_number_is_refused(query: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        job(NOISE, **query)


def test_an_image_names_its_own_noise_whatever_others_there_are() -> None:
    whole, alone = job(NOISE, seed=7), job(NOISE[1], seed=8)
    about: dict[str, Any] = {"model": "m", "version": "0" * 64, "timesteps": (1,)}
    facts = recipe(whole, 1, **about)
    assert facts == recipe(alone, 0, **about)
    assert facts["pictures"] == [hashlib.sha256(encode_npy(NOISE[1])).hexdigest()]
    assert "pictures" not in recipe(job(seed=8), 0, **about)
    again = job_of(facts, noises_in(fit_noise(NOISE[1], shape=SHAPE)))
    assert (again.pictures, again.params.seed) == (alone.pictures, 8)


def test_only_workers_that_know_noise_get_it() -> None:
    assert (job(NOISE).contract, job().contract) == (3, 1)
