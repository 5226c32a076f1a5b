"""Fixtures for all tests. Only the fixtures that need torch import it, so that other tests stay quick."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import httpx
import hypothesis
import pytest
import redis
from typer.main import get_command

from difuso.errors import UserError
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.redis_server import RedisServer
from tests.forking import FOR_TRAINING, LOADED
from tests.left_out import report_left_out
from tests.scheduling import Scheduling
from tests.serving import ENVIRONMENT

# Tests run in as many processes as there are cores, and torch's threads stall when they have to share one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell starts in the background ignores Ctrl-C, and so would every process that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("difuso", deadline=None, max_examples=25)
hypothesis.settings.load_profile("difuso")

# Each client of httpx would read all certificates anew, five times as much work as a request is.
pytest.MonkeyPatch().setattr("httpx._transports.default.create_ssl_context", cache(httpx.create_ssl_context))

# Each command that a test runs would make all commands anew.
pytest.MonkeyPatch().setattr("typer.testing._get_command", cache(get_command))

# What users keep between runs, tests neither read nor write.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="difuso-tests-")
os.environ["DIFUSO_TRAINED_DIR"] = os.environ["XDG_CACHE_HOME"] + "/trained"
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    return Scheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Looks for no garbage among modules and tests, which stay: the collector would search them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Has the slow tests, of which many train, fork processes that have imported what that takes."""
    if config.option.markexpr.startswith("slow"):
        LOADED.extend(FOR_TRAINING)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    report_left_out(terminalreporter)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Yields a running server of our own, append-only as in production. Without one: skipped here, failed in CI."""
    with ChildProcesses() as children:
        try:
            server = RedisServer(children, tmp_path_factory.mktemp("redis"))
        except UserError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        with closing(server):
            server.start()
            yield server


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Computes on one thread: small tensors gain nothing from threads, which wait for each other on busy cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Returns the URL of an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Plugs in a module of samplers and schedules, tests/plugged.py, for one test, and returns its name."""
    from difuso.model.plans.plugins import PLUGGED, plug_in
    from difuso.model.plans.samplers import SAMPLERS

    monkeypatch.syspath_prepend(Path(__file__).parent)
    before, name = dict(SAMPLERS), "plugged"
    plug_in([name])
    yield name
    PLUGGED.clear()
    SAMPLERS.clear()
    SAMPLERS.update(before)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a models folder with one checkpoint `tiny`: 16x16 RGB, T = 1000, the same random weights each time.

    It has a plan of its own, `few`.
    """
    import torch

    from difuso.model import ModelConfig, save_checkpoint
    from difuso.model.folders.config import SamplerDefaults
    from difuso.model.networks.build import build_network
    from difuso.model.networks.configs import UNetConfig

    network_config = UNetConfig(channels=16, channel_mult=(1, 2), attention_levels=(1,), head_channels=8, groups=4)
    # With random weights, v keeps x0 inside [-1, 1] where eps would clip nearly all of it to black and white.
    plans = {"few": SamplerDefaults("ddim", 3, "at:40.5,300,900", 0.5)}
    config = ModelConfig(network=network_config, image_size=16, prediction="v", plans=plans)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(config.network)
        # A fresh U-Net predicts zero whatever it sees: with that, a test could not distinguish one batch from another.
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    folder = tmp_path_factory.mktemp("models")
    save_checkpoint(folder / "tiny", config, network)
    return folder


@pytest.fixture(scope="session")
def cascade_models_dir(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a models folder with `tiny` and `tiny-up`, which enlarges its images to 32x32."""
    from difuso.model import save_checkpoint
    from difuso.model.folders.config import ConditionConfig
    from tests.small_models import CONDITIONAL, upscaler_of

    folder = tmp_path_factory.mktemp("cascade")
    shutil.copytree(models_dir / "tiny", folder / "tiny")
    condition = ConditionConfig(size=16, max_augmentation=0.5, augmentation=0.1)
    upscaler = upscaler_of(CONDITIONAL, condition=condition, image_size=32)
    save_checkpoint(folder / "tiny-up", upscaler.config, upscaler.network)
    return folder


@pytest.fixture
def environment(models_dir: Path) -> dict[str, str]:
    """Returns the environment of a `difuso` command that serves `tiny` and starts its own Redis."""
    return {**ENVIRONMENT, "DIFUSO_MODELS_DIR": str(models_dir)}
