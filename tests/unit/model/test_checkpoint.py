"""A checkpoint comes back as it was saved; a folder that cannot be served is refused with the file and the reason."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from difuso.model import CheckpointError, ModelConfig, load_checkpoint, save_checkpoint
from difuso.model.errors import may_pass
from difuso.model.folders.config import SamplerDefaults, ScheduleConfig
from difuso.model.folders.files import CLASSIFIER, CONFIG, SUMS, WEIGHTS, file_sha256
from difuso.model.networks.build import build_network
from difuso.model.networks.classifier import Classifier
from difuso.model.networks.configs import ClassifierConfig, PaperUNetConfig, UNetConfig
from difuso.model.networks.sigma_configs import SongUNetConfig
from tests.canary import Canary

pytestmark = pytest.mark.usefixtures("one_thread")

NETWORK = UNetConfig(
    channels=8, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(1,), head_channels=8, groups=4, num_classes=2
)
CONFIG_TINY = ModelConfig(
    NETWORK,
    image_size=8,
    schedule=ScheduleConfig("cosine", 200),
    prediction="v",
    classes=("cat", "dog"),
    defaults=SamplerDefaults("dpmpp", 20, "trailing"),
    training={"recipe": "tiny", "steps": 3},
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(folder, CONFIG_TINY, build_network(CONFIG_TINY.network))
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def sign(folder: Path) -> None:
    """New sums, as of somebody who edits a checkpoint and knows what SHA256SUMS is for."""
    (folder / SUMS).write_text("".join(f"{file_sha256(folder / name)}  {name}\n" for name in (CONFIG, WEIGHTS)))


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)
    sign(folder)


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def test_fourier_frequencies_keep_their_bits(tmp_path: Path) -> None:
    """In float16 the angles of a late timestep would be others by many radians."""
    config = SongUNetConfig(channels=16, channel_mult=(1,), fourier=True)
    network = build_network(config)
    save_checkpoint(tmp_path / "half", ModelConfig(config, image_size=16), network)
    stored = load_file(tmp_path / "half" / WEIGHTS)
    assert {name for name, tensor in stored.items() if tensor.dtype == torch.float32} == {"frequencies"}
    assert torch.equal(stored["frequencies"], network.state_dict()["frequencies"])


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        (CONFIG_TINY, torch.float16),
        (ModelConfig(PaperUNetConfig(in_channels=1, out_channels=1), channels=1), torch.float32),
    ],
    ids=["unet", "paper"],
)
def test_round_trip(tmp_path: Path, config: ModelConfig, dtype: torch.dtype) -> None:
    network = build_network(config.network)
    save_checkpoint(tmp_path / "again-1.0", config, network, dtype=dtype)
    checkpoint = load_checkpoint(tmp_path / "again-1.0")
    assert (checkpoint.name, checkpoint.config) == ("again-1.0", config)
    assert (checkpoint.schedule.betas == config.schedule.build().betas).all()
    for name, tensor in checkpoint.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, network.state_dict()[name].to(dtype).float())


def test_the_folder_holds_the_three_files_that_sha256sum_can_check(pristine: Path) -> None:
    assert {path.name for path in pristine.iterdir()} == {CONFIG, WEIGHTS, SUMS}
    for line in (pristine / SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == file_sha256(pristine / name)
    assert [path.name for path in pristine.parent.iterdir()] == [pristine.name]  # no half-written folder left


def test_saving_again_replaces(folder: Path) -> None:
    network = build_network(CONFIG_TINY.network)
    network.conv_out.bias.data.fill_(0.5)  # type: ignore[union-attr, operator]
    save_checkpoint(folder, CONFIG_TINY, network)
    assert (load_checkpoint(folder).network.conv_out.bias == 0.5).all()  # type: ignore[union-attr]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("value", [float("nan"), 1e6], ids=["nan", "too large for float16"])
def test_what_could_not_be_loaded_is_not_saved(folder: Path, value: float) -> None:
    """Weights that are not finite never replace good ones."""
    before, network = load_checkpoint(folder).version, build_network(CONFIG_TINY.network)
    network.conv_out.bias.data.fill_(value)  # type: ignore[union-attr, operator]
    with pytest.raises(CheckpointError, match=r"conv_out\.bias holds NaN or infinity"):
        save_checkpoint(folder, CONFIG_TINY, network)
    assert load_checkpoint(folder).version == before


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, SUMS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder) == f"{name} is missing"


def test_a_missing_folder_is_refused_and_the_traceback_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("nothing")
    assert str(caught.value) == "there is no such folder"
    assert str(tmp_path / "nothing") in "".join(caught.value.__notes__)
    assert may_pass(caught.value)


@pytest.mark.parametrize(
    ("name", "damage"),
    [(CONFIG, lambda data: data[:-9]), (WEIGHTS, lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])],
)
def test_a_truncated_or_flipped_file_does_not_match_its_sum(
    folder: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    assert refusal(folder) == f"{name} does not match its SHA-256 sum: it was damaged or edited"


@pytest.mark.parametrize("sums", ["", "0" * 64 + f"  {CONFIG}\n"])
def test_sums_that_do_not_vouch_for_a_file(folder: Path, sums: str) -> None:
    (folder / SUMS).write_text(sums)
    assert refusal(folder).startswith(f"{CONFIG} does not match its SHA-256 sum")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_weights_that_are_not_safetensors(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    sign(folder)
    assert refusal(folder).startswith(f"{WEIGHTS} is not a safetensors file")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w["conv_out.bias"].fill_(float("nan")), "conv_out.bias holds NaN or infinity"),
        (lambda w: w.pop("conv_in.bias"), "lacks the tensor conv_in.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), "holds an unknown tensor extra"),
        (lambda w: w.update({"conv_in.bias": torch.zeros(9)}), "conv_in.bias has shape (9,), the config asks for (8,)"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    folder: Path, change: Callable[[dict[str, Tensor]], object], reason: str
) -> None:
    edit_weights(folder, change)
    assert reason in refusal(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_config_that_is_no_json_object(folder: Path, text: str) -> None:
    (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
    sign(folder)
    assert refusal(folder).startswith("config.json is not")


@pytest.mark.parametrize("pickled", ["model.pt", "last.ckpt", WEIGHTS])
def test_a_pickle_never_runs(folder: Path, tmp_path: Path, pickled: str) -> None:
    """Not even under the name of the weights, with sums that fit."""
    canary = tmp_path / "executed"
    (folder / WEIGHTS).unlink()
    (folder / pickled).write_bytes(pickle.dumps(Canary(canary)))
    if pickled == WEIGHTS:
        sign(folder)
        assert "is not a safetensors file" in refusal(folder)
    else:
        assert refusal(folder).startswith(f"{WEIGHTS} is missing; {pickled} is a pickle, which is never loaded")
    assert not canary.exists()


@pytest.fixture
def guided(tmp_path: Path) -> Path:
    """A folder with a classifier."""
    classifier = Classifier(
        ClassifierConfig(
            image_size=8, num_classes=2, channels=8, channel_mult=(1, 2), attention_levels=(), head_channels=8, groups=4
        )
    )
    config = dataclasses.replace(CONFIG_TINY, classifier=classifier.config)
    network = build_network(config.network)
    save_checkpoint(tmp_path / "guided", config, network, classifier=classifier, dtype=torch.float32)
    loaded = load_checkpoint(tmp_path / "guided").classifier
    assert loaded is not None
    assert all(torch.equal(w, loaded.state_dict()[name]) for name, w in classifier.state_dict().items())
    return tmp_path / "guided"


def test_a_classifier_is_checked_as_the_network_is(guided: Path) -> None:
    weights = load_file(guided / CLASSIFIER)
    weights["pool.proj.bias"][0] = float("nan")
    save_file(weights, guided / CLASSIFIER)
    assert refusal(guided).startswith(f"{CLASSIFIER} does not match its SHA-256 sum")
    sums = [f"{file_sha256(guided / name)}  {name}\n" for name in (CLASSIFIER, CONFIG, WEIGHTS)]
    (guided / SUMS).write_text("".join(sums))
    assert refusal(guided) == f"{CLASSIFIER}: the tensor pool.proj.bias holds NaN or infinity"
    (guided / CLASSIFIER).unlink()
    assert refusal(guided) == f"{CLASSIFIER} is missing"
