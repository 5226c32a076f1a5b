"""Compiled networks: what they depend on, and that a runner uses them only where they compute the same.

The compiler itself takes half a minute for a size, so it runs with the slow tests.
"""

from __future__ import annotations

import dataclasses
import io
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from difuso import cli
from jobs.contract import Job
from jobs.kinds.upscale import Upscaling
from jobs.params import SamplingParams
from model.checkpoint import Checkpoint, load_checkpoint
from model.folders.config import ConditionConfig, ModelConfig, SamplerDefaults, ScheduleConfig
from model.networks.configs import DiTConfig, UNetConfig
from tests.small_models import CLASSES, CONDITIONAL, NETWORK, WEAKER, checkpoint_of, upscaler_of
from worker.device import compiled
from worker.device.compiled import folder_of, load_compiled
from worker.engine.local import Drawn, run_job
from worker.engine.models import make_runner
from worker.settings import WorkerSettings
from worker.stepping.runner import Runner

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(models_dir: Path) -> Checkpoint:
    return load_checkpoint(models_dir / "tiny")


class Recorder:
    """In place of a compiled network: the network itself, which remembers the sizes of its batches."""

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self._network = network
        self.sizes: list[int] = []

    def __call__(self, *arguments: Tensor) -> Tensor:
        self.sizes.append(len(arguments[0]))
        return self._network(*arguments)


GUIDED = checkpoint_of(UNetConfig(**NETWORK), weaker=UNetConfig(**WEAKER))


def weights_of(checkpoint: Checkpoint) -> int:
    """The number of tensors of a network, which tells two of them apart."""
    return len(checkpoint.network.state_dict())


def job(n: int, **changes: float) -> Job:
    settings = {"steps": 3, "sampler": "ddim", "spacing": "trailing", "eta": 0.0, "seed": 4} | changes
    params = SamplingParams.model_validate({"n": n, **settings})
    return Job(id=str(uuid.uuid4()), model="tiny", params=params, urgency=3, accepted_at=time.time(), timeout=600)


def pngs(runner: Runner, n: int) -> list[bytes]:
    *_, drawn = run_job(runner, job(n))
    assert isinstance(drawn, Drawn)
    return drawn.pngs


def test_only_the_compiled_sizes_are_used(checkpoint: Checkpoint) -> None:
    recorder = Recorder(checkpoint.network)
    runner = Runner(checkpoint, device=CPU, slots=6, compiled=dict.fromkeys((2, 4, 6), recorder))
    assert runner.compiled
    assert set(runner.buckets) <= {2, 4, 6}
    recorder.sizes.clear()
    pngs(runner, 3)
    assert set(recorder.sizes) <= set(runner.buckets)


def test_a_compiled_network_is_told_the_condition_in_the_order_of_its_config() -> None:
    """It takes all arguments by position, as code that was compiled from their names does."""
    up = upscaler_of(dataclasses.replace(CONDITIONAL, num_classes=len(CLASSES)), classes=CLASSES)

    def in_order(x: Tensor, t: Tensor, labels: Tensor, planes: Tensor, level: Tensor) -> Tensor:
        out: Tensor = up.network(x, t, labels=labels, planes=planes, level=level)
        return out

    drawn = []
    for networks in ({}, {4: in_order}):
        runner = Runner(up, device=CPU, slots=4, exact=False, compiled=networks)
        task = Upscaling(augmentation=0.2)
        asked = job(3).model_copy(update={"task": task, "params": job(3).params.model_copy(update={"label": 1})})
        *_, made = run_job(runner, asked, [torch.zeros(3, 8, 8)])
        assert isinstance(made, Drawn)
        drawn.append([np.asarray(Image.open(io.BytesIO(png))) for png in made.pngs])
    eager, by_position = drawn
    assert np.array_equal(eager, by_position)


@pytest.fixture
def any_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LEAST_GAIN", 0.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_conditional_network_compiled_computes_the_same(tmp_path: Path, any_gain: None) -> None:
    tmp_path.chmod(0o755)
    assert [path.name for path in compiled.compile_network(upscaler_of(), tmp_path, 2)] == ["2.pt2"]
    assert set(load_compiled(upscaler_of(), tmp_path, 2)[0]) == {2}  # which compares them


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pixel_transformer_on_a_flow_compiled_computes_the_same(tmp_path: Path, any_gain: None) -> None:
    tmp_path.chmod(0o755)
    network = DiTConfig(channels=32, depth=2, heads=2, patch=2, bottleneck=16, num_classes=3, context_tokens=2)
    schedule, defaults = ScheduleConfig("flow", shift=2.0), SamplerDefaults("ddim", 3, "trailing")
    model = checkpoint_of(network, classes=CLASSES, schedule=schedule, defaults=defaults)
    assert [path.name for path in compiled.compile_network(model, tmp_path, 2)] == ["2.pt2"]
    assert set(load_compiled(model, tmp_path, 2)[0]) == {2}
    shifted = dataclasses.replace(model.config, schedule=ScheduleConfig("flow", shift=3.0))
    assert folder_of(shifted, tmp_path) != folder_of(model.config, tmp_path)  # the code holds the shift


def test_a_compiled_weaker_network_guides() -> None:
    assert GUIDED.weaker is not None
    own, weaker = Recorder(GUIDED.network), Recorder(GUIDED.weaker)
    sizes = (1, 2, 4)
    runner = Runner(
        GUIDED, device=CPU, slots=4, compiled=dict.fromkeys(sizes, own), compiled_weaker=dict.fromkeys(sizes, weaker)
    )
    weaker.sizes.clear()
    guided = job(3, guidance_scale=2.0)
    *_, drawn = run_job(runner, guided)
    assert set(weaker.sizes) <= set(sizes)
    calls = len(weaker.sizes)
    assert calls > 0
    assert isinstance(drawn, Drawn)
    *_, eager = run_job(Runner(GUIDED, device=CPU, slots=4), guided)
    assert isinstance(eager, Drawn)
    pixels = [[Image.open(io.BytesIO(png)).tobytes() for png in made.pngs] for made in (drawn, eager)]
    assert pixels[0] == pixels[1]
    pngs(runner, 1)
    assert len(weaker.sizes) == calls


def test_a_model_is_not_compiled_by_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An image of a model whose weaker network alone is not compiled would say that it is, and have other bits."""
    assert GUIDED.weaker_version is not None
    networks = {weights_of(version): version.network for version in (GUIDED, GUIDED.weaker_version)}
    monkeypatch.setattr(compiled, "_load", lambda file, weights: networks[len(weights)])
    tmp_path.chmod(0o755)
    for version in (GUIDED, GUIDED.weaker_version):
        assert load_compiled(GUIDED, tmp_path, 2) == ({}, {})
        folder = folder_of(version.config, tmp_path)
        folder.mkdir(mode=0o755)
        (folder / "2.pt2").touch(mode=0o644)
    assert "the weaker network of m is not compiled: run difuso compile again" in caplog.text
    assert [set(found) for found in load_compiled(GUIDED, tmp_path, 2)] == [{2}, {2}]


def test_an_image_says_that_a_compiled_network_made_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for name, networks in (("plain", {}), ("compiled", {2: checkpoint.network})):
        (png,) = pngs(Runner(checkpoint, device=CPU, slots=2, compiled=networks), 1)
        (tmp_path / name).write_bytes(png)
        assert ('"compiled":true' in Image.open(tmp_path / name).text["difuso"]) == (name == "compiled")  # type: ignore[attr-defined]


def test_other_code_for_each_network_torch_and_team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(UNetConfig(), image_size=16)
    folders = [
        folder_of(config, tmp_path),
        folder_of(dataclasses.replace(config, image_size=32), tmp_path),
        folder_of(dataclasses.replace(config, network=UNetConfig(channels=32)), tmp_path),
    ]
    seeing = dataclasses.replace(config, network=UNetConfig(condition_channels=3))  # of a sketch, or of a small image
    folders += [
        folder_of(seeing, tmp_path),
        folder_of(dataclasses.replace(seeing, condition=ConditionConfig(8)), tmp_path),
    ]
    assert folder_of(dataclasses.replace(config, prediction="x0", training={"steps": 1}), tmp_path) == folders[0]
    torch.set_num_threads(2)
    folders.append(folder_of(config, tmp_path))
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "__version__", "2.99")
    folders.append(folder_of(config, tmp_path))
    monkeypatch.setattr(compiled, "_processor", lambda: "another")
    folders.append(folder_of(config, tmp_path))
    assert len(set(folders)) == len(folders)


REASONS = {
    "nothing": "",
    "another file": "",
    "no archive": "",
    "file of others": "others can write",
    "folder of others": "others can write",
    "only small": "batches of 4 are missing",
    "other images": "batches of 4 give other images",
}


@pytest.mark.parametrize("what", REASONS)
def test_what_cannot_be_used_is_left_alone(
    checkpoint: Checkpoint,
    tmp_path: Path,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tmp_path.chmod(0o755)
    folder = folder_of(checkpoint.config, tmp_path)
    folder.mkdir(mode=0o755)
    if what == "another file":
        (folder / "4-old.pt2").write_bytes(b"")
    elif what != "nothing":
        for size in (2,) if what == "only small" else (2, 4):
            (folder / f"{size}.pt2").write_bytes(b"no archive")
            (folder / f"{size}.pt2").chmod(0o644)
    if what == "file of others":
        (folder / "2.pt2").chmod(0o664)
    if what == "folder of others":
        folder.chmod(0o777)
    if what == "other images":

        def load(file: Path, weights: object) -> Callable[..., Tensor]:
            wrong = 1.01 if file.stem == "4" else 1.0
            return lambda x, *rest: wrong * checkpoint.network(x, *rest)

        monkeypatch.setattr(compiled, "_load", load)
    assert load_compiled(checkpoint, tmp_path, 4) == ({}, {})
    assert REASONS[what] in caplog.text
    assert ("are not used" in caplog.text) == (what not in ("nothing", "another file"))


def test_the_largest_batch_is_the_first_compiled_one_that_holds_all_slots(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line asks for as many slots as a job has images."""
    monkeypatch.setattr(compiled, "_load", lambda file, weights: checkpoint.network)
    settings = WorkerSettings(compiled_dir=tmp_path)
    tmp_path.chmod(0o755)
    folder = folder_of(checkpoint.config, tmp_path)
    folder.mkdir(mode=0o755)
    for size in (2, 4, 6):
        (folder / f"{size}.pt2").touch(mode=0o644)
    for slots, largest in ((1, 2), (2, 2), (3, 4), (4, 4), (6, 6)):
        runner = make_runner(checkpoint, settings, device=CPU, slots=slots)
        assert (runner.compiled, runner.slots, runner.buckets[-1]) == (True, largest, largest)
    assert not make_runner(checkpoint, settings, device=CPU, slots=7).compiled


def test_compiled_code_is_kept_where_it_is_faster(
    checkpoint: Checkpoint, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has to gain a tenth, or else what an earlier command kept goes, too."""

    def compile_to(checkpoint: Checkpoint, size: int, folder: Path) -> Path:
        (folder / f"{size}.pt2").touch()
        return folder / f"{size}.pt2"

    compiled_code = Recorder(checkpoint.network)
    monkeypatch.setattr(compiled, "_compile", compile_to)
    monkeypatch.setattr(compiled, "_load", lambda file, weights: compiled_code)
    tmp_path.chmod(0o755)
    environment = {"DIFUSO_COMPILED_DIR": str(tmp_path), "DIFUSO_SLOTS": "4", "DIFUSO_DEVICE": "cpu"}
    command = ["compile", "tiny", "--models-dir", str(models_dir), "--workers", "1"]
    for eager_seconds, kept in ((0.109, False), (0.111, True), (0.1, False)):

        def seconds(checkpoint: Checkpoint, size: int, network: object, eager: float = eager_seconds) -> float:
            return 0.1 if network is compiled_code else eager

        monkeypatch.setattr(compiled, "_seconds", seconds)
        result = CliRunner().invoke(cli.app, command, env=environment, catch_exceptions=False)
        assert result.exit_code == 0
        assert {file.name for file in tmp_path.rglob("*.pt2")} == ({"2.pt2", "4.pt2"} if kept else set())
        refusal = f"would hardly be faster here: 4 images take 100 ms, and {1000 * eager_seconds:.0f} ms without it"
        assert (refusal in result.output) is not kept


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_finds_what_the_command_compiled(models_dir: Path, tmp_path: Path, any_gain: None) -> None:
    settings = WorkerSettings(models_dir=models_dir, compiled_dir=tmp_path, slots=4, device="cpu")
    environment = {"DIFUSO_COMPILED_DIR": str(tmp_path), "DIFUSO_SLOTS": "4", "DIFUSO_DEVICE": "cpu"}
    command = ["compile", "tiny", "--models-dir", str(models_dir), "--workers", "1"]
    result = CliRunner().invoke(cli.app, command, env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [Path(line).name for line in result.output.splitlines()[1:]] == ["2.pt2", "4.pt2"]
    three_slots = settings.model_copy(update={"slots": 3})
    assert make_runner(load_checkpoint(models_dir / "tiny"), three_slots, device=CPU).buckets == (2, 4)
    runner = make_runner(load_checkpoint(models_dir / "tiny"), settings, device=CPU)
    assert (runner.compiled, runner.buckets) == (True, (2, 4))  # the sizes agree bit for bit
    plain = make_runner(
        load_checkpoint(models_dir / "tiny"), settings.model_copy(update={"compile": "off"}), device=CPU
    )
    assert not plain.compiled
    alone, three, expected = pngs(runner, 1), pngs(runner, 3), pngs(plain, 3)
    assert alone[0] == three[0]
    for found, known in zip(three, expected, strict=True):
        apart = np.asarray(Image.open(io.BytesIO(found))).astype(int) - np.asarray(Image.open(io.BytesIO(known)))
        assert np.abs(apart).max() <= 1
