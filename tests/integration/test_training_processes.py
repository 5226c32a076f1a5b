"""Training as users start it: real processes, several of them, and signals that nobody can catch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from difuso.model import load_checkpoint, save_checkpoint
from difuso.model.networks.build import build_network
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.run import train
from difuso.training.run.state import load_state
from tests.forking import Command
from tests.small_models import awake
from tests.states import assert_equal
from tests.strangers import PACKAGE, on_the_path, write_package
from tests.waiting import wait_until

TINY = (
    *("image_size=8", "batch_size=8", "precision=float32", "warmup_steps=0", "log_every=1", "defaults.steps=2"),
    *("network.channels=8", "network.channel_mult=[1]", "network.groups=4", "network.head_channels=8"),
    *("loss=hybrid", "variance=learned_range", "network.out_channels=6", "timesteps=stratified"),
    *("network.num_classes=5", "label_drop=0.3", "data.source=npz", "data.flip=true"),
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "DIFUSO_DEVICE": "cpu"}
OWN = (
    *(f"timesteps={PACKAGE}.training:late", f"weighting={PACKAGE}.training:falling"),
    *(f"optimizer={PACKAGE}.training:momentum", f"data.augment={PACKAGE}.training:brighter"),
)
SAVER = Path(__file__).parents[1] / "saving.py"
DIFUSO = ("-m", "difuso", "train", "smoke")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def changes(tmp_path: Path) -> list[str]:
    """Of the smoke recipe, for twenty random images of five classes."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images, np.arange(20) % 5)
    return [*TINY, f"data.path={tmp_path / 'images.npz'}"]


def command(*before: str, out: Path, changes: list[str]) -> list[str]:
    settings = [word for change in changes for word in ("--set", change)]
    return [sys.executable, *before, *DIFUSO, "--out", str(out), *settings]


def state(out: Path) -> dict[str, object]:
    found = load_state(out)
    assert found is not None
    trainer: dict[str, object] = found["trainer"]
    return trainer


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(180)
@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path, changes: list[str]) -> None:
    """The first half of the run by two, the second by one, against all of it by one: gradients and weights agree."""
    halves, whole = tmp_path / "halves", tmp_path / "whole"
    subprocess.run(
        command(*TORCHRUN, out=halves, changes=[*changes, "max_steps=3"]), env=ENVIRONMENT, check=True, timeout=150
    )
    by_two = state(halves)
    for steps in (3, 6):
        train(load_recipe("smoke", [*changes, f"max_steps={steps}"]), whole)
        if steps == 6:
            train(load_recipe("smoke", [*changes, "max_steps=6"]), halves)
            by_two = state(halves)
        by_one = state(whole)
        for key, tensor in by_one["network"].items():  # type: ignore[attr-defined]
            torch.testing.assert_close(by_two["network"][key], tensor, rtol=1e-4, atol=1e-5)  # type: ignore[index]
        moments = by_one["optimizers"][0]["state"]  # type: ignore[index]
        for key, moment in moments.items():
            other = by_two["optimizers"][0]["state"][key]  # type: ignore[index]
            torch.testing.assert_close(other["exp_avg"], moment["exp_avg"], rtol=1e-3, atol=1e-6)
        assert by_two["position"] == by_one["position"]
        assert torch.equal(by_two["draws"]["generator"], by_one["draws"]["generator"])  # type: ignore[index]
    lines = {
        out: [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()] for out in (halves, whole)
    }
    assert [line["step"] for line in lines[halves]] == [1, 2, 3, 4, 5, 6]  # only one of the two wrote
    for one, other in zip(lines[whole], lines[halves], strict=True):
        for name in ("loss", "grad_norm", "vlb"):
            assert other[name] == pytest.approx(one[name], rel=1e-3)


@pytest.mark.timeout(1000)
@pytest.mark.long
def test_a_compiled_run_has_the_gradients_of_one_that_is_not(tmp_path: Path) -> None:
    """PyTorch 2.13 compiles the gradient of `F.interpolate` to zero on a processor with AMX."""
    changes = [
        *("data.count=100", "image_size=8", "batch_size=64", "precision=bf16", "max_steps=2", "warmup_steps=0"),
        *("network.channels=32", "network.channel_mult=[1, 2]", "network.groups=8", "network.head_channels=32"),
        *("log_every=1", "defaults.steps=2"),
    ]
    norms = []
    for compiled in ("false", "true"):
        out = tmp_path / compiled
        run = command(out=out, changes=[*changes, f"compile={compiled}"])
        subprocess.run(run, env=ENVIRONMENT, check=True, timeout=450)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        norms.append([line["grad_norm"] for line in lines])
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


LAST_THREADS = """
import os
import torch
from torch import nn
from difuso.training.run.processes import joined

with joined(torch.device("cpu")) as (processes, _):
    network = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    network(torch.ones(1, 2)).sum().backward()
    del network
print([open(f"/proc/self/task/{thread}/comm").read().strip() for thread in os.listdir("/proc/self/task")])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of threads are read from /proc")
def test_the_threads_of_a_group_end_with_it() -> None:
    """One that still works while Python ends aborts the process, and torchrun calls the whole run failed."""
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "TORCHELASTIC_RUN_ID": "1"}
    threads = subprocess.check_output([sys.executable, "-c", LAST_THREADS], env={**ENVIRONMENT, **alone}, text=True)
    assert "python" in threads
    assert "gloo" not in threads


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_sigterm_saves_and_exits_with_0(tmp_path: Path, changes: list[str]) -> None:
    out = tmp_path / "run"
    endless = [*changes, "max_steps=1000000", "save_every=1000000", "sheet_every=1000000"]
    words = command(out=out, changes=endless)[len((sys.executable, "-m", "difuso")) :]
    process = Command(words, environment=ENVIRONMENT, folder=tmp_path)
    try:
        metrics = out / "metrics.jsonl"
        wait_until(lambda: metrics.is_file() and metrics.stat().st_size > 0, 60, "the first line of the log")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    steps = state(out)["step"]
    assert load_checkpoint(out / "model").config.training["steps"] == steps
    assert json.loads(metrics.read_text().splitlines()[-1])["step"] == steps


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(120)
@pytest.mark.long
def test_a_run_of_own_functions_goes_on_as_if_it_had_not_stopped(tmp_path: Path, changes: list[str]) -> None:
    """After kill -9, bit for bit; and after two processes, up to rounding."""
    own, environment = [*changes, *OWN, "save_every=2"], {**ENVIRONMENT, "DIFUSO_NETWORKS": PACKAGE}
    environment["PYTHONPATH"] = str(write_package(tmp_path / "lab"))
    killed, by_two, whole = tmp_path / "killed", tmp_path / "two", tmp_path / "whole"
    subprocess.run(command(*TORCHRUN, out=by_two, changes=[*own, "max_steps=4"]), env=environment, check=True)
    process = subprocess.Popen(command(out=killed, changes=[*own, "max_steps=1000000"]), env=environment)
    try:
        wait_until(lambda: load_state(killed) is not None, 60, "a save")
    finally:
        process.kill()
        process.wait()
    steps = int(str(state(killed)["step"])) + 4
    with on_the_path(tmp_path / "lab"):
        for out in (killed, by_two, whole):
            rest = [f"max_steps={steps}", f"save_every={steps}"]
            train(load_recipe("smoke", [*own, *rest], networks=[PACKAGE]), out)
    assert_equal(state(killed), state(whole))
    for key, tensor in state(whole)["network"].items():  # type: ignore[attr-defined]
        torch.testing.assert_close(state(by_two)["network"][key], tensor, rtol=1e-3, atol=1e-4)  # type: ignore[index]


TEACHING = ("data.source=npz", "data.path=none", "data.settings={}")
PAIRED = (
    *("loss=regression", "data.source=teacher", "data.count=4500", "prediction=v"),
    *("image_size=8", "batch_size=8", "precision=float32", "warmup_steps=0", "log_every=1", "max_steps=4"),
    *("network.channels=8", "network.channel_mult=[1]", "network.groups=4", "network.head_channels=8"),
    *(
        "data.settings.sampler=unipc",
        "data.settings.steps=20",
        "defaults.sampler=ddim",
        "defaults.steps=2",
        "defaults.spacing=trailing",
    ),
)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(900)
@pytest.mark.long
def test_a_teachers_images_are_the_same_after_kill_9_and_by_two_processes(tmp_path: Path) -> None:
    """And what is trained on them is too: bit for bit, and of two processes up to rounding."""
    teacher, killed, by_two, whole = (tmp_path / name for name in ("teacher", "killed", "two", "whole"))
    of_teacher = load_recipe("smoke", [*PAIRED[3:], *TEACHING]).model_config({})
    save_checkpoint(teacher, of_teacher, awake(build_network(of_teacher.network)))
    changes = [*PAIRED, f"data.path={teacher}"]
    process = subprocess.Popen(command(out=killed, changes=changes), env=ENVIRONMENT)
    try:
        wait_until(lambda: any((killed / "data").rglob("*.npy")), 120, "the first images")
    finally:
        process.kill()
        process.wait()
    assert load_state(killed) is None
    assert 1 <= len([*(killed / "data").rglob("*.npy")]) < 5
    for before, out in (((), killed), ((), whole), (TORCHRUN, by_two)):
        subprocess.run(command(*before, out=out, changes=changes), env=ENVIRONMENT, check=True, timeout=200)
    images = [(out / "data" / "images.bytes").read_bytes() for out in (killed, by_two, whole)]
    assert len(images[0]) == 4500 * 8 * 8 * 3
    assert images[0] == images[1] == images[2]
    assert_equal(state(killed), state(whole))
    for key, tensor in state(whole)["network"].items():  # type: ignore[attr-defined]
        torch.testing.assert_close(state(by_two)["network"][key], tensor, rtol=1e-3, atol=1e-4)  # type: ignore[index]


def in_the_middle(out: Path) -> bool:
    """Whether something is being written."""
    return any(out.glob("*.tmp")) or any(out.glob(".model*"))


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_kill_9_in_the_middle_of_saves_leaves_what_loads(tmp_path: Path) -> None:
    """Each time the state is whole and newer than the last, and so is the model that is served."""
    last = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, SAVER, tmp_path, str(last + 1)])
        try:
            wait_until(lambda: latest(tmp_path) >= last + 2, 60, "two saves")  # noqa: B023
            wait_until(lambda: in_the_middle(tmp_path), 60, "a save")
        finally:
            process.kill()
            process.wait()
        found = load_state(tmp_path)
        assert found is not None
        assert found["step"] > last
        last = found["step"]
        assert all(bool((tensor == last % 1000).all()) for tensor in found["network"].values())
        weights = {float(p.detach().flatten()[0]) for p in load_checkpoint(tmp_path / "model").network.parameters()}
        assert weights <= {last % 1000, (last - 1) % 1000, (last + 1) % 1000}
        assert len(weights) == 1


def latest(out: Path) -> int:
    found = load_state(out)
    return 0 if found is None else int(found["step"])
