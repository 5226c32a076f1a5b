"""`difuso models --check` finds what would go wrong when a network is served or trained."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.model.conditions import VectorSequence
from difuso.model.plans.prediction import Preconditioning
from tests.strangers import CLASSES, PACKAGE, on_the_path, save_model, write_package

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with on_the_path(write_package(tmp_path_factory.mktemp("lab"))):
        yield


TEXT = {"text": VectorSequence(5, 4, null=True)}


def check(models: Path, name: str, allowed: str = PACKAGE, device: str = "cpu") -> tuple[int, str]:
    """The exit status, and what is printed."""
    environment = {"DIFUSO_NETWORKS": allowed, "DIFUSO_DEVICE": device, "DIFUSO_SLOTS": "4"}
    result = CliRunner().invoke(cli.app, ["models", "--models-dir", str(models), "--check", name], env=environment)
    if isinstance(result.exception, UserError):
        raise result.exception
    return result.exit_code, result.output


def test_a_sound_network_has_no_faults(tmp_path: Path) -> None:
    save_model(tmp_path / "mine", classes=CLASSES)
    status, said = check(tmp_path, "mine")
    assert status == 0, said
    assert "called with x, t, labels" in said
    for line in (
        "ok    an output of shape (2, 3, 8, 8), float32",
        "ok    the same call gives the same bits again",
        "ok    it can be called without a class, as label 3",
        "ok    it heeds t",
        "ok    it heeds labels",
        "ok    training: all 7 tensors get a gradient",
    ):
        assert line in said.splitlines()
    assert "image-steps/s in batches of" in said
    assert "fails" not in said


def test_a_sequence_and_its_mask_are_heeded(tmp_path: Path) -> None:
    save_model(tmp_path / "mine", "Attentive", conditions=TEXT)
    status, said = check(tmp_path, "mine")
    assert (status, "called with x, t, sequence, sequence_mask" in said) == (0, True), said
    assert {"ok    it heeds sequence", "ok    it heeds sequence_mask"} <= {*said.splitlines()}


@pytest.mark.parametrize(
    ("kind", "status", "line"),
    [
        ("Mixing", 0, "note  an image gets other bits in any larger batch, so that images are drawn one at a time"),
        ("AttendsToNothing", 1, "fails without text the output has NaN or infinity: sequence_mask is false everywhere"),
        ("Nan", 1, "fails the output has NaN or infinity"),
        ("Rewriting", 1, "fails a call changes first.weight, which workers prepare once: call torch.nn.functional"),
        ("Flat", 1, f"fails {PACKAGE}.nets:Flat must return floats of shape (2, 3, 8, 8), and returned"),
        ("FailsAtCalls", 1, f"fails {PACKAGE}.nets:FailsAtCalls cannot be called: its code raised ValueError"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, kind: str, status: int, line: str) -> None:
    save_model(tmp_path / "mine", kind, conditions=TEXT if "Attend" in kind else None)
    found, said = check(tmp_path, "mine")
    assert any(each.startswith(line) for each in said.splitlines()), said
    assert found == status


def test_a_network_of_noise_levels_is_called_with_them_in_training_too(tmp_path: Path) -> None:
    save_model(tmp_path / "mine", "Steep", preconditioning=Preconditioning("edm"))
    status, said = check(tmp_path, "mine")
    assert (status, "gradient of" in said) == (0, False), said


def test_weights_that_pytorch_makes_at_each_call_are_no_fault(tmp_path: Path) -> None:
    save_model(tmp_path / "mine", "SpectralNorm")
    status, said = check(tmp_path, "mine")
    assert status == 0, said


def test_what_a_network_ignores_is_reported(tmp_path: Path) -> None:
    save_model(tmp_path / "mine", "Random", classes=CLASSES)
    status, said = check(tmp_path, "mine")
    assert status == 1
    assert "fails the same call gives other bits again: leave out what draws or changes in eval mode" in said
    assert "note  training: 3 of 7 tensors get no gradient, such as time.weight" in said


def test_a_model_that_is_not_allowed_is_not_checked(tmp_path: Path) -> None:
    save_model(tmp_path / "mine")
    with pytest.raises(UserError, match=rf"mine: {PACKAGE}\.nets:Denoiser is code of another package"):
        check(tmp_path, "mine", allowed="")
