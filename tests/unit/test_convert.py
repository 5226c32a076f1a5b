"""`difuso convert`: foreign checkpoints become folders that are served as they are, and nothing in them ever runs."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.model import load_checkpoint, save_checkpoint
from difuso.model.folders.config import ScheduleConfig
from difuso.model.folders.files import CLASSIFIER, file_sha256
from difuso.model.guidance import Guidance
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import UNetConfig
from tests.canary import Canary
from tests.foreign import noise, reference
from tests.jit import CLEAN
from tests.jit import LABELS as JIT_LABELS
from tests.small_models import awake

pytestmark = pytest.mark.usefixtures("one_thread")

X = noise("x", 2, 3, 16, 16)
T, LABELS = torch.tensor([3, 750]), torch.tensor([4, 0])
NEW, LEGACY, CLASSIFIER_NAME = "guided_new_order", "guided_legacy_order", "guided_classifier"


def convert(source: Path, *arguments: str | Path) -> str:
    """What the command prints; its UserError is raised here as in `main`."""
    result = CliRunner().invoke(cli.app, ["convert", str(source), *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(source: Path, *arguments: str | Path) -> str:
    out = source.parent / "refused"
    with pytest.raises(UserError) as caught:
        convert(source, "--out", out, *arguments)
    assert not out.exists()
    return str(caught.value)


def write(folder: Path, name: str, *, sidecar: bool = True, suffix: str = ".pt", **facts: Any) -> Path:
    """The file of a reference and, next to it, its facts, or others."""
    read, path = reference(name), folder / f"{name}{suffix}"
    if suffix == ".safetensors":
        save_file(read.weights, path)
    else:
        torch.save(read.weights, path)
    if sidecar:
        path.with_suffix(".json").write_text(json.dumps({**read.about["facts"], **facts}))
    return path


def assert_equal(mine: Tensor, theirs: Tensor) -> None:
    assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize(
    "suffix",
    [".pt", ".safetensors", *(pytest.param(each, marks=pytest.mark.slow) for each in (".pth", ".ckpt"))],
)
def test_a_converted_network_computes_what_it_did(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path, NEW, suffix=suffix)
    printed = convert(source, "--out", tmp_path / "models" / "new-1.0")
    checkpoint = load_checkpoint(tmp_path / "models" / "new-1.0")
    assert_equal(checkpoint.network(X, T, labels=LABELS), reference(NEW).outputs["out"])
    parameters = sum(tensor.numel() for tensor in reference(NEW).weights.values())
    assert f"new-1.0: {parameters:,} parameters, 16x16 pixels" in printed
    assert f"difuso serve --models-dir {tmp_path / 'models'}" in printed
    assert checkpoint.config.training == {"converted_from": source.name, "sha256": file_sha256(source)}


def test_a_trainers_file_of_jit(tmp_path: Path) -> None:
    read, source = reference("jit"), tmp_path / "checkpoint-last.pth"
    torch.save({"model_ema1": read.weights | {"net.pos_embed": read.outputs["pos_embed"]}, "epoch": 9}, source)
    source.with_suffix(".json").write_text(json.dumps(read.about["facts"]))
    convert(source, "--out", tmp_path / "model")
    x, time = noise("x", len(CLEAN), 3, 16, 16), 1000 * (1 - torch.tensor(CLEAN))
    network = load_checkpoint(tmp_path / "model").network
    assert_equal(network(x, time, labels=torch.tensor(JIT_LABELS)), read.outputs["called"])


def test_a_config_may_name_a_network_of_ours_and_the_folder_is_named_after_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So dome272's weights are read, which have the names of `PaperUNet`."""
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(tmp_path / "models"))
    source = write(tmp_path, "dome", sidecar=False).rename(tmp_path / "EMA ckpt.pt")
    network = {"type": "paper_unet", "num_classes": 5}
    config = {"format": 1, "network": network, "schedule": {}, "classes": ["a", "b", "c", "d", "e"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    convert(source, "--half", "--facts", tmp_path / "config.json")
    checkpoint = load_checkpoint(tmp_path / "models" / "ema-ckpt")
    assert (checkpoint.config.network.num_classes, checkpoint.config.image_size) == (5, 64)


def test_a_model_is_written_for_another_number_format(models_dir: Path, tmp_path: Path) -> None:
    """With the same weights, as both formats are computed from them."""
    convert(models_dir / "tiny", "--precision", "bfloat16", "--out", tmp_path / "half")
    made, old = load_checkpoint(tmp_path / "half"), load_checkpoint(models_dir / "tiny")
    assert (made.config, made.config.precision) == (old.in_precision("bfloat16").config, "bfloat16")
    for name, tensor in old.network.state_dict().items():
        assert torch.equal(made.network.state_dict()[name], tensor), name
    assert "leave out --precision" in refusal(models_dir / "tiny", "--to", "diffusers", "--precision", "bfloat16")


@pytest.mark.parametrize("arguments", [(), ("--half",)])
def test_numbers_keep_their_precision_unless_half_is_asked_for(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    source = write(tmp_path, "pesser")
    convert(source, "--out", tmp_path / "model", *arguments)
    weights = reference("pesser").weights["conv_in.weight"]
    wanted = weights.half().float() if arguments else weights
    assert torch.equal(load_checkpoint(tmp_path / "model").network.state_dict()["conv_in.weight"], wanted)


@pytest.mark.slow
def test_float16_stays_float16(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in reference("pesser").weights.items()}
    torch.save(halves, tmp_path / "half.pt")
    (tmp_path / "half.json").write_text(json.dumps(reference("pesser").about["facts"]))
    convert(tmp_path / "half.pt", "--out", tmp_path / "model")
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    assert size < 2.1 * sum(tensor.numel() for tensor in halves.values())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"model": {}, "ema": weights, "step": 7},
        lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()},
        lambda weights: [{}, {"param_groups": []}, 12, 3000, weights],  # ermongroup/ddim: the last is the average
        lambda weights: [{f"module.{name}": tensor for name, tensor in weights.items()}, {"state": {}}, 12, 3000],
    ],
    ids=["state_dict", "ema", "DataParallel", "ermongroup with EMA", "ermongroup"],
)
def test_usual_wrappers_are_taken_off(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    source = write(tmp_path, "pesser")
    torch.save(wrap(reference("pesser").weights), source)
    convert(source, "--out", tmp_path / "model")
    assert_equal(load_checkpoint(tmp_path / "model").network(X, T), reference("pesser").outputs["out"])


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_a_hostile_checkpoint_is_refused_and_never_runs(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"model{suffix}"
    torch.save({"conv_in.weight": Canary(tmp_path / "executed")}, source)
    assert "the file needs posix.mkdir: it holds more than tensors" in refusal(source)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
def test_a_hostile_pickle_is_refused_and_never_runs(tmp_path: Path, protocol: int) -> None:
    source = tmp_path / "model.pt"
    source.write_bytes(pickle.dumps(Canary(tmp_path / "executed"), protocol=protocol))
    assert refusal(source).startswith("model.pt: the file ")
    assert not (tmp_path / "executed").exists()


def test_edm_is_refused_unopened(tmp_path: Path) -> None:
    source = tmp_path / "edm-cifar10.pkl"
    source.write_bytes(pickle.dumps(Canary(tmp_path / "executed")))
    message = refusal(source)
    assert "a .pkl file runs code when it is loaded, so it is never opened" in message
    assert (
        "`python -m difuso.export_edm edm-cifar10.pkl edm-cifar10` with their repository on the PYTHONPATH" in message
    )
    assert "and then `difuso convert edm-cifar10.pt`" in message
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "must hold a state dict, not a int"),
        ({"a": torch.zeros(1), "epoch": 3}, "'epoch' is a int, not a tensor of weights"),
        ({"a": torch.zeros(1)}, "unknown layout (a, ...)"),
    ],
    ids=str,
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert reason in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    assert refusal(tmp_path / "model.pt") == "model.pt: the file cannot be read: damaged, or not written by torch.save"


def test_missing_facts_are_listed_with_an_example(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, NEW, sidecar=False))
    assert (
        "do not say image_size, use_new_attention_order, noise_schedule, diffusion_steps, rescale_timesteps, "
        "num_heads or num_head_channels: write it into"
    ) in message
    example = json.loads(message[message.index("{") : message.index("}") + 1])
    source = write(tmp_path, NEW, sidecar=False)
    source.with_suffix(".json").write_text(json.dumps({**example, "image_size": 16}))
    convert(source, "--out", tmp_path / "model")  # the example is a complete one
    assert "adm-256-uncond" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "is not a JSON object"),
        ('{"image_size": 16}', "do not say variance: write it into"),
        ('{"image_size": 16, "variance": "fixed"}', "variance: Input should be 'fixed_small' or 'fixed_large'"),
        ('{"image_size": 16, "variance": "fixed_small", "color": 1}', "unknown key color: known are image_size"),
    ],
)
def test_wrong_facts_are_explained(tmp_path: Path, content: str, reason: str) -> None:
    source = write(tmp_path, "pesser", sidecar=False)
    source.with_suffix(".json").write_text(content)
    assert reason in refusal(source)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ("adm-63", "adm-63 is neither a file of facts nor a released checkpoint; known of this layout are ho-cifar10"),
        ("adm-64", "adm-64 is a checkpoint of another layout than pesser.pt"),
    ],
)
def test_facts_by_a_wrong_name_are_refused(tmp_path: Path, facts: str, reason: str) -> None:
    assert reason in refusal(write(tmp_path, "pesser"), "--facts", facts)


def test_facts_by_name(tmp_path: Path) -> None:
    convert(write(tmp_path, "pesser", sidecar=False), "--out", tmp_path / "model", "--facts", "ho-cifar10")
    config = load_checkpoint(tmp_path / "model").config
    assert (config.image_size, config.variance) == (32, "fixed_large")


def test_a_model_with_its_classifier(tmp_path: Path) -> None:
    source, classifier = write(tmp_path, LEGACY, noise_schedule="cosine"), write(tmp_path, CLASSIFIER_NAME)
    printed = convert(source, "--out", tmp_path / "model", "--classifier", classifier)
    checkpoint = load_checkpoint(tmp_path / "model")
    assert "with a classifier" in printed
    assert (tmp_path / "model" / CLASSIFIER).is_file()
    assert checkpoint.classifier is not None
    assert checkpoint.config.classifier == checkpoint.classifier.config
    assert_equal(checkpoint.classifier(X, T), reference(CLASSIFIER_NAME).outputs["logits"])
    assert_equal(checkpoint.network(X, T), reference(LEGACY).outputs["out"])


@pytest.mark.slow
def test_a_model_of_difuso_gets_a_classifier(tmp_path: Path) -> None:
    convert(write(tmp_path, LEGACY, noise_schedule="cosine"), "--out", tmp_path / "model")
    convert(tmp_path / "model", "--out", tmp_path / "guided", "--classifier", write(tmp_path, CLASSIFIER_NAME))
    plain, guided = load_checkpoint(tmp_path / "model"), load_checkpoint(tmp_path / "guided")
    assert guided.classifier is not None
    assert guided.version != plain.version
    assert_equal(guided.network(X, T), plain.network(X, T))
    assert guided.config.training == plain.config.training


@pytest.mark.parametrize(
    ("name", "facts", "reason"),
    [
        (LEGACY, {}, "was trained on another noise schedule"),
        (NEW, {}, "classes 7 instead of 5"),
        (LEGACY, {"image_size": 32, "noise_schedule": "cosine"}, "image size 16 instead of 32"),
    ],
)
def test_a_classifier_that_does_not_fit_the_model_is_refused(
    tmp_path: Path, name: str, facts: dict[str, Any], reason: str
) -> None:
    source, classifier = write(tmp_path, name, **facts), write(tmp_path, CLASSIFIER_NAME)
    assert reason in refusal(source, "--classifier", classifier)


def test_a_weaker_version_becomes_part_of_a_model(models_dir: Path, tmp_path: Path) -> None:
    tiny = load_checkpoint(models_dir / "tiny")
    assert isinstance(tiny.config.network, UNetConfig)
    smaller = dataclasses.replace(tiny.config.network, channel_mult=(1,), attention_levels=())
    small = awake(build_network(smaller))
    config = dataclasses.replace(tiny.config, network=smaller, training={"steps": 3})
    save_checkpoint(tmp_path / "small", config, small, dtype=torch.float32)
    guidance = ("--guidance-scale", "2.5", "--guidance-low", "0.2", "--guidance-high", "3")
    said = convert(models_dir / "tiny", "--weaker", tmp_path / "small", *guidance, "--out", tmp_path / "guided")
    assert "with a weaker network" in said
    made = load_checkpoint(tmp_path / "guided")
    assert made.config.weaker == smaller
    assert made.config.defaults.guidance == Guidance(2.5, 0.2, 3.0)
    assert made.config.training == {**tiny.config.training, "weaker": {"steps": 3}}
    assert made.weaker is not None
    for name, tensor in small.state_dict().items():
        assert torch.equal(made.weaker.state_dict()[name], tensor)
    assert "no place for the weaker network" in refusal(tmp_path / "guided", "--to", "diffusers")
    convert(tmp_path / "guided", "--out", tmp_path / "again")  # it keeps what it has
    again = load_checkpoint(tmp_path / "again")
    assert again.weaker is not None
    assert again.config.defaults == made.config.defaults


def test_a_weaker_version_must_fit_the_model(models_dir: Path, tmp_path: Path) -> None:
    tiny = load_checkpoint(models_dir / "tiny")
    others = {
        "prediction eps instead of v": dataclasses.replace(tiny.config, prediction="eps"),
        "another noise schedule": dataclasses.replace(tiny.config, schedule=ScheduleConfig("cosine")),
        "on another noise schedule": dataclasses.replace(tiny.config, schedule=ScheduleConfig("linear", 500)),
        "shape": dataclasses.replace(tiny.config, image_size=8),
    }
    for number, (reason, config) in enumerate(others.items()):
        save_checkpoint(tmp_path / f"other{number}", config, tiny.network)
        assert reason in refusal(models_dir / "tiny", "--weaker", tmp_path / f"other{number}")
    assert "needs a weaker network" in refusal(models_dir / "tiny", "--guidance-scale", "2")
    assert "guidance_high must be greater" in refusal(
        models_dir / "tiny", "--guidance-low", "2", "--guidance-high", "1"
    )


def test_a_classifier_is_no_model_and_a_model_no_classifier(tmp_path: Path) -> None:
    classifier, model = write(tmp_path, CLASSIFIER_NAME), write(tmp_path, "pesser")
    assert "is a noisy classifier: convert a model, and give this file as --classifier" in refusal(classifier)
    assert "is not a noisy classifier" in refusal(model, "--classifier", model)


@pytest.mark.parametrize("name", [NEW, "pesser"])
def test_to_diffusers_and_back(tmp_path: Path, name: str) -> None:
    inputs = {"labels": LABELS} if name == NEW else {}
    convert(write(tmp_path, name), "--out", tmp_path / "pipeline", "--to", "diffusers")
    convert(tmp_path / "pipeline", "--out", tmp_path / "model")
    assert (tmp_path / "pipeline" / "model_index.json").is_file()
    for folder in ("pipeline", "model"):
        assert_equal(load_checkpoint(tmp_path / folder).network(X, T, **inputs), reference(name).outputs["out"])


def pickled_pipeline(tmp_path: Path) -> Path:
    """A diffusers folder as old ones are: with its weights in a pickle."""
    convert(write(tmp_path, "pesser"), "--out", tmp_path / "pipeline", "--to", "diffusers")
    weights = tmp_path / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return weights.with_suffix(".bin")


def test_diffusers_with_pickled_weights(tmp_path: Path) -> None:
    pickled_pipeline(tmp_path)
    convert(tmp_path / "pipeline", "--out", tmp_path / "model")
    checkpoint = load_checkpoint(tmp_path / "model")
    assert_equal(checkpoint.network(X, T), reference("pesser").outputs["out"])
    assert checkpoint.config.training["converted_from"] == "diffusion_pytorch_model.bin"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--out", "."], "exists already: delete it, or name another folder with --out"),
        (
            ["--out", "a", "--to", "diffusers", "--classifier", "x.pt"],
            "has no place for a second network: leave out --classifier",
        ),
        (["--out", "a", "--classifier", "x.pt"], "there is no file or folder x.pt"),
    ],
)
def test_mistakes_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path, "pesser")
    with pytest.raises(UserError, match=reason):
        convert(source, *arguments)


def test_a_folder_says_itself_what_it_is(models_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs no facts: leave out --facts"):
        convert(models_dir / "tiny", "--out", tmp_path / "again", "--facts", "adm-64")
