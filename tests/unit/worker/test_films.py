"""Films: which predictions they show, that these are those of the run, and how large they become."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from difuso.jobs.kinds.denoise import Denoising
from difuso.jobs.moments import FILM_MOMENTS, film_bytes, film_calls, film_size
from difuso.jobs.store.result_store import ResultStore
from difuso.model.networks.configs import UNetConfig
from difuso.model.shape import Shape
from difuso.worker.engine import results
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.engine.engine import StepEngine
from difuso.worker.engine.results import encode_films
from difuso.worker.stepping.runner import Runner
from difuso.worker.stepping.trajectory import (
    Moment,
    Trajectory,
    in_film_size,
    restore_snapshot,
)
from tests.small_models import NETWORK, checkpoint_of, checkpoint_of_shape
from tests.stepping import run, snapshot_of, usual_job

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LEVELS = 4  # grey levels by which WebP may change a patch of one colour: it stores luma and chroma in 8 bits


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(checkpoint_of(UNetConfig(**NETWORK)), device=CPU, slots=4)


def finished(active: ActiveJob) -> ActiveJob:
    run(active)
    return active


def predictions(trajectory: Trajectory) -> list[Tensor]:
    return [moment.x0 for moment in trajectory.moments]


def moments(predicted: Iterable[Tensor]) -> tuple[Moment, ...]:
    return tuple(Moment(call, x0) for call, x0 in enumerate(predicted, 1))


def moments_of(film: bytes) -> list[np.ndarray[Any, Any]]:
    pixels = np.asarray(Image.open(io.BytesIO(film)))
    return np.split(pixels, pixels.shape[1] // pixels.shape[0], axis=1)


@pytest.mark.parametrize("steps", [2, 3, 11, 12, 13, 50, 1000])
def test_a_film_shows_a_dozen_calls_from_the_first_to_the_last(steps: int) -> None:
    calls = film_calls(steps)
    assert len(calls) == min(steps, FILM_MOMENTS)
    assert (calls[0], calls[-1]) == (1, steps)
    gaps = np.diff(calls)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1, "spread evenly"


def test_its_moments_are_the_predictions_of_the_run(runner: Runner) -> None:
    """Traced or not; the same for an image alone and among others."""
    active = finished(activate(usual_job(steps=15, n=3, trace=film_calls(15)), runner))
    alone = finished(activate(usual_job(steps=15), runner))
    (image,) = alone.answers
    assert len(image.moments) == FILM_MOMENTS
    assert all(torch.equal(*pair) for pair in zip(predictions(image), predictions(active.answers[0]), strict=True))
    assert encode_films(alone)[0] == encode_films(active)[0]


def test_moments_stand_side_by_side_in_their_order(runner: Runner) -> None:
    active = activate(usual_job(steps=4, n=2), runner)
    colours = [[(each + 1) / 9 * 2 - 1 for each in range(start, start + 4)] for start in (0, 4)]
    for trajectory, greys in zip(active.answers, colours, strict=True):
        trajectory.moments = moments(torch.full((3, 16, 16), grey) for grey in greys)
    for film, greys in zip(encode_films(active), colours, strict=True):
        found = moments_of(film)
        assert len(found) == 4
        for moment, grey in zip(found, greys, strict=True):
            assert moment.shape == (16, 16, 3)
            assert abs(moment.astype(float) - (grey + 1) * 127.5).max() <= LEVELS


def test_a_mean_has_the_film_of_its_mean(runner: Runner) -> None:
    mean = Denoising(sigma=20.0, depth=300, average=True)
    active = activate(usual_job(steps=2, n=2, task=mean), runner, sent=[torch.zeros(3, 8, 8)])
    for trajectory, grey in zip(active.answers, (-0.8, 0.4), strict=True):
        trajectory.moments = moments([torch.full((3, 8, 8), grey)] * 2)
    (film,) = encode_films(active)
    assert all(abs(moment.astype(float) - (-0.2 + 1) * 127.5).max() <= LEVELS for moment in moments_of(film))


def test_large_images_have_small_films() -> None:
    assert film_size(256, 128) == (64, 32)
    assert film_size(48, 64) == (48, 64)
    wide = Runner(checkpoint_of_shape(Shape(3, 64, 128)), device=CPU, slots=1)
    active = finished(activate(usual_job(steps=2), wide))
    frame = active.answers[0].moments[-1].x0
    assert frame.shape == (3, 32, 64)
    pairs = active.answers[0].x0.reshape(3, 32, 2, 64, 2).mean((2, 4))
    assert (frame - pairs).abs().max() <= 4 * torch.finfo(torch.float32).eps, "averages of four pixels"


def test_a_step_whose_frame_found_no_memory_is_repeated_with_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other step that fails: in a batch of two neither image has made it."""
    large = Runner(checkpoint_of_shape(Shape(3, 8, 72)), device=CPU, slots=2)
    reference, active = (activate(usual_job(steps=3, n=2, sampler="ddpm"), large) for _ in range(2))
    finished(reference)
    calls = []

    def once(x0: Tensor) -> Tensor:
        calls.append(x0)
        if len(calls) == 3:  # the first image of the second step
            raise torch.OutOfMemoryError("injected")
        return in_film_size(x0)

    monkeypatch.setattr("difuso.worker.stepping.trajectory.in_film_size", once)
    engine = StepEngine(lambda event: None)
    engine.submit(active)
    while active.unfinished:
        engine.step()
    assert len(calls) > 3
    for found, expected in zip(active.answers, reference.answers, strict=True):
        assert torch.equal(found.x, expected.x)
        assert all(torch.equal(*pair) for pair in zip(predictions(found), predictions(expected), strict=True))


def test_runs_of_one_call_have_none(runner: Runner) -> None:
    assert encode_films(finished(activate(usual_job(steps=1), runner))) == []


def test_after_a_resumption_a_film_shows_the_rest(runner: Runner) -> None:
    """Snapshots hold no films: they would be twice as large."""
    first = activate(usual_job(steps=4), runner)
    runner.step(first.answers)
    runner.step(first.answers)
    saved = snapshot_of(first)
    rest = activate(usual_job(steps=4), runner)
    assert restore_snapshot(saved, rest.trajectories, rest.run_sha256) is not None
    whole, part = (moments_of(encode_films(finished(each))[0]) for each in (first, rest))
    assert len(part) == 2
    assert len(whole) == 4


@pytest.mark.parametrize("channels", [1, 3, 5, 16])
def test_a_film_of_noise_is_within_its_price(channels: int) -> None:
    """What compresses worst; a film of pictures has a tenth."""
    shape = Shape(channels, 8, 8)
    runner = Runner(checkpoint_of_shape(shape), device=CPU, slots=1)
    active = activate(usual_job(steps=12, planes=shape.planes), runner)
    generator = torch.Generator().manual_seed(0)
    noise = (torch.randint(0, 2, (channels, 64, 64), generator=generator) * 2.0 - 1 for _ in range(12))
    active.answers[0].moments = moments(noise)
    (film,) = encode_films(active)
    assert len(film) <= film_bytes(12, Shape(channels, 64, 64))


@pytest.mark.parametrize("most", [results.SMALL_BYTES, 0])
def test_films_are_stored_with_the_images(
    runner: Runner, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of large results in a file of their own."""
    monkeypatch.setattr(results, "SMALL_BYTES", most)
    store, active = ResultStore(str(tmp_path)), finished(activate(usual_job(steps=3, n=2), runner, attempt="first"))
    results.store_results(store, [(active, results.encode_result(active))])
    manifest = store.manifest(active.job.id)
    assert manifest is not None
    assert (manifest.films is None) is (most > 0)
    assert [store.film(manifest, index) for index in range(2)] == encode_films(active)
