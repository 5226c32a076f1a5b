"""Networks of other packages in a worker: the batches that they get, and their faults, which are those of one model."""

import base64
import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.jobs.contract import FailureCode
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.images.npz import pixels_of
from difuso.model.checkpoint import load_checkpoint
from difuso.model.conditions import VectorSequence
from difuso.model.images import to_uint8
from difuso.model.sampling import networks_of, sample
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.engine.failures import failure_code
from difuso.worker.engine.models import ModelFollower
from difuso.worker.engine.results import encode_images, preview_message
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.batched_network import alike_anywhere
from difuso.worker.stepping.runner import Runner
from tests.small_models import checkpoint_of
from tests.stepping import drawn, end, run, snapshot_of, stepping, usual_job
from tests.strangers import CLASSES, PACKAGE, config_of, on_the_path, save_model, write_package

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = write_package(tmp_path_factory.mktemp("lab"))
    with on_the_path(folder):
        yield folder


def runner_of(folder: Path, kind: str = "Denoiser", **fields: object) -> Runner:
    save_model(folder / "mine", kind, **fields)
    return Runner(load_checkpoint(folder / "mine", networks={PACKAGE}), device=CPU, slots=6)


def start(runner: Runner, **params: Any) -> ActiveJob:
    usual: dict[str, Any] = {"steps": 6, "sampler": "ddpm", "spacing": "linspace"}
    return activate(usual_job(**usual | params), runner)


def test_an_image_has_the_same_bytes_alone_and_among_others(tmp_path: Path) -> None:
    """Guided or not, whatever the others are."""
    runner = runner_of(tmp_path, classes=CLASSES)
    asked: list[dict[str, Any]] = [
        {"seed": 1, "label": 0},
        {"seed": 2, "label": 1, "guidance_scale": 3.0},
        {"seed": 3, "n": 2},
    ]
    alone = []
    for params in asked:
        active = start(runner, **params)
        run(active)
        alone.append(encode_images(active))
    together = [start(runner, **params) for params in asked]
    run(*together)
    assert [encode_images(active) for active in together] == alone
    assert len({*alone[0], *alone[1], *alone[2]}) == 4


def test_a_stack_of_sixteen_slices_has_the_same_bytes_alone_and_among_others(tmp_path: Path) -> None:
    """Of a network that convolves in three dimensions. A preview shows all slices, or the three that a job names."""
    runner = runner_of(tmp_path, "Stack", channels=16)
    alone = []
    for seed in (1, 2, 3):
        run(active := start(runner, seed=seed, planes=16))
        alone += encode_images(active)
    run(together := start(runner, seed=1, n=3, planes=16))
    assert encode_images(together) == alone
    (pixels,) = to_uint8(together.answers[0].x0[None]).numpy()
    assert np.array_equal(pixels_of(alone[0], planes=16), pixels)
    shown = preview_message(together, 0, together.answers[0].x0)
    slices = pixels_of(base64.b64decode(json.loads(shown)["png"]))[:, :, 0]
    assert slices.shape == (4 * 9 - 1, 4 * 9 - 1)
    for channel in range(16):
        row, column = divmod(channel, 4)
        assert np.array_equal(slices[9 * row : 9 * row + 8, 9 * column : 9 * column + 8], pixels[:, :, channel])
    coloured = dataclasses.replace(together, job=together.job.model_copy(update={"shown": (9, 0, 15)}))
    shown = preview_message(coloured, 0, together.answers[0].x0)
    assert np.array_equal(pixels_of(base64.b64decode(json.loads(shown)["png"])), pixels[:, :, [9, 0, 15]])


TEXT = VectorSequence(8, 4, null=True)
VECTORS = [torch.randn((length, 8), generator=torch.Generator().manual_seed(length)) for length in (1, 2, 4)]


def reading(runner: Runner, vectors: Tensor | None, snapshot: bytes | None = None, **params: Any) -> ActiveJob:
    """Begins a job with a sequence."""
    usual: dict[str, Any] = {"steps": 4, "sampler": "ddpm", "spacing": "linspace", "seed": 1}
    asked: dict[str, Any] = {} if vectors is None else {"conditions": {"text": (f"{len(vectors):064}",)}}
    job = usual_job(**usual | params | asked)
    return activate(job, runner, sent=[] if vectors is None else [vectors], snapshot=snapshot)


def test_an_image_with_a_sequence_has_the_same_bytes_alone_and_beside_other_lengths(tmp_path: Path) -> None:
    """Guided or not, after a snapshot, and as the plain loop draws it."""
    runner = runner_of(tmp_path, "Attentive", conditions={"text": TEXT})
    assert len(runner.buckets) > 1
    scales = dict(zip(VECTORS, (1.0, 1.0, 3.0), strict=True))
    jobs = [reading(runner, vectors, guidance_scale=scale) for vectors, scale in scales.items()]
    run(*jobs, unread := reading(runner, None))
    assert len({encode_images(each)[0] for each in (*jobs, unread)}) == 4
    for (vectors, scale), together in zip(scales.items(), jobs, strict=True):
        alone = reading(runner, vectors, guidance_scale=scale)
        next(stepping(alone))
        run(resumed := reading(runner, vectors, snapshot_of(alone), guidance_scale=scale))
        assert resumed.resumed_at > 0
        assert encode_images(resumed) == encode_images(together)
        networks = networks_of(runner.checkpoint, conditions={"text": vectors.tolist()})
        plain = sample(alone.answers[0].plan, **networks, shape=(3, 8, 8), seeds=[1])
        assert torch.allclose(drawn(resumed), plain, atol=1e-4)


@pytest.mark.parametrize("vectors", [torch.zeros(5, 8), torch.zeros(2, 4), torch.full((1, 8), torch.nan)])
def test_a_sequence_that_its_condition_does_not_take_is_refused(vectors: Tensor) -> None:
    runner = Runner(
        checkpoint_of(config_of("Attentive", conditions={"text": TEXT}).network, conditions={"text": TEXT}),
        device=CPU,
        slots=2,
    )
    with pytest.raises(JobUnreadable, match="the sequence text must be 1 to 4 vectors of 8 numbers"):
        reading(runner, vectors)


def test_a_network_that_mixes_images_gets_one_at_a_time(tmp_path: Path) -> None:
    assert runner_of(tmp_path, "Mixing").buckets == (1,)


@pytest.mark.parametrize("main", ["Denoiser", "Mixing"])
def test_a_weaker_network_that_mixes_images_gets_one_at_a_time(main: str) -> None:
    """Whatever the sizes of the network that it guides."""
    network, weaker = (config_of(kind).network for kind in (main, "Mixing"))
    runner = Runner(checkpoint_of(network, weaker=weaker), device=CPU, slots=4)
    alone, first, second = (start(runner, seed=seed, guidance_scale=2.0) for seed in (1, 1, 2))
    run(alone)
    run(first, second)
    assert encode_images(first) == encode_images(alone) != encode_images(second)


def last_otherwise(x: Tensor, t: Tensor) -> Tensor:
    """Stands for a function of PyTorch that rounds the last of its numbers otherwise."""
    out = x * t.view(-1, 1, 1, 1)
    return torch.cat([out[:-1], torch.nextafter(out[-1:], torch.tensor(9.0))])


@pytest.mark.parametrize(
    ("function", "alike"),
    [
        (lambda x, t: x * t.view(-1, 1, 1, 1), [True, True, True]),
        (lambda x, t: x - x.mean(0), [True, False, False]),
        (lambda x, t: x / x.abs().max(), [True, False, False]),
        (last_otherwise, [True, False, False]),
    ],
    ids=["each alone", "the mean", "the largest", "the last"],
)
def test_what_depends_on_place_or_neighbours_is_found(function: Callable[..., Tensor], alike: list[bool]) -> None:
    batch = [torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6.0)]

    def call(size: int, batch: Sequence[Tensor]) -> Tensor:
        return function(*(each[:size] for each in batch))

    assert [alike_anywhere(call, batch, call(size, batch)) for size in (1, 2, 5)] == alike


def test_a_call_that_fails_fails_its_job_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even where the code wants to end the process. The log has what it said, and the client a code."""
    runner = runner_of(tmp_path, "FailsLate")
    good, bad = start(runner, spacing="at:300,600,900", steps=3), start(runner, spacing="at:1,600,900", steps=3)
    errors = end(good, bad)
    assert errors[good] is None
    assert (error := errors[bad]) is not None
    with caplog.at_level(logging.ERROR):
        assert failure_code(error, {}) is FailureCode.NETWORK
    assert "/home/me/secret" in caplog.text


def test_a_fault_refuses_its_model_and_no_other(
    models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tiny").symlink_to(models_dir / "tiny")
    for name, kind in {"builds": "FailsToBuild", "calls": "FailsAtCalls", "flat": "Flat", "nan": "Nan"}.items():
        save_model(tmp_path / name, kind)
    save_model(tmp_path / "fine")
    settings = WorkerSettings(models_dir=tmp_path, slots=2, device="cpu", networks=frozenset({PACKAGE}))
    follower = ModelFollower(settings)
    follower.load_first()
    follower.load_all()
    models = follower.models
    assert {runner.checkpoint.name for runner in models.runners.values()} == {"fine", "tiny"}
    assert {name: why.reason for name, why in models.refused.items()} == {
        "builds": f"{PACKAGE}.nets:FailsToBuild cannot be built: its code raised KeyError: 'no such file: …'",
        "calls": f"{PACKAGE}.nets:FailsAtCalls cannot be called: its code raised ValueError: …",
        "flat": f"{PACKAGE}.nets:Flat must return floats of shape (2, 3, 8, 8), and returned torch.float32 of shape "
        "(2, 192)",
        "nan": "the network returns NaN or infinity for noise",
    }
    assert "no such file: /home/me/secret" in caplog.text


@pytest.mark.parametrize(
    ("text", "found"), [("a.b, c", {"a.b", "c"}), ("lab", {"lab"}), ("", set()), ("Lab.Nets", {"Lab.Nets"})]
)
def test_the_setting_lists_modules(monkeypatch: pytest.MonkeyPatch, text: str, found: set[str]) -> None:
    monkeypatch.setenv("DIFUSO_NETWORKS", text)
    assert WorkerSettings().networks == frozenset(found)


@pytest.mark.parametrize("text", ["lab/nets", "lab..nets", "lab:Net"])
def test_the_setting_refuses_what_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DIFUSO_NETWORKS", text)
    with pytest.raises(ValueError, match=r"must be names of modules"):
        WorkerSettings()
