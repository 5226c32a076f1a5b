"""A wheel that is installed anywhere works: in an environment of its own, in an empty folder, without the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from functools import partial
from pathlib import Path

import pytest

from tests.serving import ENVIRONMENT, executed, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has difuso from a wheel, which was built from the sdist of this tree, and sees
    the dependencies that are installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    linked = [path.name for path in (ROOT / "difuso").iterdir() if path.is_symlink()]
    for name in ("difuso", *linked, "checkpoints"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-c", "from setuptools.build_meta import build_sdist; build_sdist('..')", cwd=source)
    shutil.rmtree(source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, "wheel", *offline, *map(str, folder.glob("*.tar.gz")), cwd=folder)
    run(sys.executable, "-m", "venv", "--without-pip", "environment", cwd=folder)
    python = folder / "environment/bin/python"
    run(*pip, "--python", str(python), "install", *offline, *map(str, folder.glob("*.whl")), cwd=folder)
    site = sysconfig.get_path("purelib", vars={"base": str(folder / "environment")})
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # but no link from there into this tree
    return python


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a user who has set nothing, and a home of their own."""
    mine = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("DIFUSO_", "XDG_"))}
    return {**mine, "HOME": str(tmp_path / "home"), "DIFUSO_WORKERS": "1"}


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_models_are_listed_and_drawn(python: Path, empty: Path, environment: dict[str, str]) -> None:
    listed = run(str(python.with_name("difuso")), "models", "--verify", cwd=empty, env=environment)
    assert f"models in {python.parents[1]}" in listed
    assert "faces64  64x64x3" in listed
    out = run(str(python.with_name("difuso")), "sample", "-n", "1", "--steps", "2", cwd=empty, env=environment)
    assert (empty / out.strip()).read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in empty.iterdir()] == ["pictures"]


def test_a_server_draws_and_keeps_its_state_in_the_home_of_its_user(
    python: Path, empty: Path, environment: dict[str, str]
) -> None:
    with running(empty, environment, start=partial(executed, python=str(python))) as difuso:
        answer = difuso.picture()
        assert answer.headers["content-type"] == "image/png"
        assert f"the models are in {python.parents[1]}" in difuso.output
        assert {path.name for path in empty.iterdir()} == {"serve.log"}
    kept = next(Path(environment["HOME"]).rglob("redis.log")).parents[1]
    assert {"redis", "store"} <= {path.name for path in kept.iterdir()}


@pytest.mark.parametrize("launcher", [[], ["torch.distributed.run", "--nproc-per-node=1", "-m"]])
def test_training_beside_packages_of_the_same_names_is_ours(
    python: Path, empty: Path, environment: dict[str, str], launcher: list[str]
) -> None:
    (empty / "training").mkdir()
    for name in ("training/__init__.py", "model.py"):
        (empty / name).write_text("raise SystemExit('a module of the user')")
    command = [str(python), "-m", *launcher, "difuso", "train", "nobody"]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "difuso: there is no recipe 'nobody'" in done.stderr
    assert "a module of the user" not in done.stderr


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env or dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
