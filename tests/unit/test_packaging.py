"""What is installed is what lies in the folders, and what is pinned can be installed by anyone."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from difuso.jobs.settings import SHIPPED

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = [
    line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]


def test_every_package_on_disk_is_in_the_package_list() -> None:
    listed: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]
    folders = {path.parent for path in files_of_difuso() if path.name == "__init__.py"}
    assert sorted(listed) == sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders)


def test_every_data_file_is_in_the_package_data() -> None:
    found = {path for path in files_of_difuso() if path.suffix not in ("", ".py", ".pyc")}
    listed = {
        path
        for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    assert found == {path for path in listed if SHIPPED not in path.parents}


def files_of_difuso() -> set[Path]:
    """All files of the package, whose folders are links to those beside it; without the model that comes with it."""
    links = [path for path in (ROOT / "difuso").iterdir() if path.is_symlink()]
    assert all(link.resolve() == ROOT / link.name for link in links)
    return {path for top in (ROOT / "difuso", *links) for path in top.rglob("*") if path.is_file()}


def test_every_top_level_package_is_held_by_the_import_rules() -> None:
    listed = {name.split(".")[0] for name in PYPROJECT["tool"]["setuptools"]["packages"]}
    assert listed == set(PYPROJECT["tool"]["importlinter"]["root_packages"])
    assert listed <= set(PYPROJECT["tool"]["mypy"]["files"])


@pytest.mark.parametrize("folder", ["tests", "docker"])
def test_folders_that_are_no_packages_cannot_shadow_one(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py"))


def test_pins_name_exact_public_versions() -> None:
    odd = [line for line in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)]
    assert odd == []


def test_every_dependency_is_pinned_within_its_range() -> None:
    project = PYPROJECT["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    wanted += [Requirement(text) for extra in project["optional-dependencies"].values() for text in extra]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in PINS)}
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        assert name == "difuso" or pins[name] in requirement.specifier, requirement


def test_the_command_line_loads_neither_torch_nor_matplotlib() -> None:
    """The supervisor and the API start from it, and stay small."""
    code = "import sys, difuso.cli, difuso.supervisor.standalone, difuso.commands.listing; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "torch"} & set(run.stdout.split())


@pytest.mark.parametrize(
    ("extra", "modules"),
    [
        (
            "client",
            "difuso.cli, difuso.client, difuso.drawing.remote_drawing, difuso.commands.inspecting",
        ),
        pytest.param("api", "difuso.app.main, difuso.supervisor.startup_checks", marks=pytest.mark.slow),
        pytest.param("worker", "difuso.worker.main, difuso.supervisor.startup_checks", marks=pytest.mark.slow),
        pytest.param("standalone", "difuso.supervisor.standalone", marks=pytest.mark.slow),
    ],
)
def test_what_an_extra_is_for_needs_only_its_packages(extra: str, modules: str) -> None:
    """Who installs it has nothing else; here everything is installed, which would hide what is missing there."""
    code = f"import sys, {modules}; print(*(each.__file__ for each in sys.modules.values() if spec(each)))"
    code = f"spec = lambda each: each.__name__.partition('.')[0] == 'difuso' and each.__file__; {code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    trees = [ast.parse(Path(path).read_text("utf-8")).body for path in run.stdout.split()]
    statements = [each for body in trees for each in body]
    loaded = {name.name for each in statements if isinstance(each, ast.Import) for name in each.names}
    loaded |= {each.module or "" for each in statements if isinstance(each, ast.ImportFrom) and not each.level}
    homes = packages_distributions()
    found = {canonicalize_name(home) for name in loaded for home in homes.get(name.partition(".")[0], [])[:1]}
    assert "numpy" in found
    # Besides ourselves: anyio comes with httpx and starlette, and its core with pydantic.
    assert found - {canonicalize_name(each.name) for each in wanted(extra)} <= {"difuso", "anyio", "pydantic-core"}


def test_a_wheel_holds_the_model_of_the_clone_by_a_link() -> None:
    """So its weights lie in the repository once."""
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["difuso.jobs"]
    (model,) = SHIPPED.iterdir()
    assert model.is_symlink()
    assert model.resolve() == ROOT / "checkpoints" / model.name
    packed = {path.resolve() for pattern in patterns for path in (ROOT / "jobs").glob(pattern)}
    assert packed == set((ROOT / "checkpoints" / model.name).iterdir())


def test_the_version_is_everywhere_the_same() -> None:
    version = PYPROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"dist/difuso-{version}-py3-none-any.whl" in (ROOT / "README.md").read_text("utf-8")
    assert f'org.opencontainers.image.version="{version}"' in (ROOT / "docker/Dockerfile").read_text("utf-8")


def test_modules_of_the_working_directory_are_not_taken_for_ours(models_dir: Path, tmp_path: Path) -> None:
    for name in ("app", "evaluation", "jobs", "model", "training", "worker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the user')")
    command = [sys.executable, "-m", "difuso", "models", "--models-dir", str(models_dir)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny" in done.stdout


def wanted(extra: str) -> list[Requirement]:
    """The requirements of difuso with one extra."""
    project = PYPROJECT["project"]
    found = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"][extra])]
    own = [each for each in found if each.name == "difuso"]
    return [each for each in found if each not in own] + [
        inner for each in own for name in each.extras for inner in wanted(name)
    ]
