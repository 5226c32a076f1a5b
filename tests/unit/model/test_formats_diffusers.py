"""Folders of diffusers are served as they are: the same network, the same schedule, the same pictures; and written."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from difuso.model import CheckpointError, ModelConfig, load_checkpoint, sample
from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.config import SamplerDefaults, ScheduleConfig
from difuso.model.formats.diffusers.pipeline import write_diffusers
from difuso.model.formats.diffusers.scheduler import scheduler_from_diffusers, scheduler_to_diffusers
from difuso.model.networks.configs import UNetConfig
from difuso.model.plans.clipping import Clipping
from tests.canary import Canary
from tests.foreign import noise
from tests.rounding import assert_rounded_alike
from tests.small_models import CLASSES, CLASSIFIER, NETWORK, checkpoint_of
from tests.unet2d import NATIVE, TINY, assert_same_forward, awake, their_network

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.usefixtures("one_thread")

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
OUR_FLOW: dict[str, Any] = {"prediction": "flow", "schedule": ScheduleConfig("flow"), "clip": Clipping("none")}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("_class_name", "UNet2DConditionModel", "describes 'UNet2DConditionModel'; only UNet2DModel is supported"),
        ("center_input_sample", True, "center_input_sample: Input should be False, got True"),
        ("time_embedding_dim", 99, "time_embedding_dim must be 4 times the first width, not 99"),
        ("mid_block_type", None, "mid_block_type: Input should be 'UNetMidBlock2D', got None"),
        ("upsample_type", "resnet", "all blocks must resample in the same way"),
        ("resnet_time_scale_shift", "scale_shift", "without attn_norm_num_groups the attention"),
        ("attn_norm_num_groups", 2, "attn_norm_num_groups differs from norm_num_groups"),
        ("class_embed_type", "timestep", "class_embed_type: Input should be None, got 'timestep'"),
        (
            "down_block_types",
            ["DownBlock2D", "SkipDownBlock2D"],
            "down_block_types has 'SkipDownBlock2D'; supported are Dow",
        ),
        ("up_block_types", ["UpBlock2D", "UpBlock2D"], "must have attention at the same levels"),
        ("down_block_types", ["AttnDownBlock2D"], "down_block_types has 1 entries, but block_out_channels has 2"),
        ("encoder_hid_dim", 3, "unknown key encoder_hid_dim"),
        ("sample_size", None, "sample_size must be a number, or height and width, not None"),
        ("sample_size", [8, 9], "image_size must be a multiple of 2 in height and width"),
        ("out_channels", 4, "needs out_channels 3 or 6"),
        ("out_channels", 6, "variance_type must be learned_range, because the network learned"),
        ("block_out_channels", [9, 18], "channels must be even"),
        ("attention_head_dim", 5, "head_channels 5 does not divide the 16 channels of level 1"),
    ],
)
def test_a_network_that_cannot_be_had_is_refused_by_name(folder: Path, name: str, value: Any, reason: str) -> None:
    edit(folder / "unet" / "config.json", lambda content: content.update({name: value}))
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "'ScoreSdeVeScheduler' is not supported; supported are DDPMScheduler"),
        ({"trained_betas": [0.1, 0.2]}, "betas must be 1000 numbers, not 2"),
        ({"predict_epsilon": False}, "write prediction_type sample instead"),
        ({"variance_type": "fixed_large_log"}, "variance_type: Input should be"),
        ({"variance_type": "learned_range"}, "with variance learned_range the network needs out_channels 6"),
        ({"steps_offset": 1}, "steps_offset must be 0, not 1"),
        ({"_class_name": "DDIMScheduler", "set_alpha_to_one": False}, "set_alpha_to_one must not be false"),
        ({"rescale_betas_zero_snr": True}, "prediction eps gives no x0 where no image is left"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type must be discrete"),
        ({**FLOW, "use_dynamic_shifting": True}, "use_dynamic_shifting must be False, not True"),
        ({**FLOW, "shift": 0.5}, "shift must be at least 1, not 0.5"),
    ],
    ids=str,
)
def test_a_scheduler_that_cannot_be_had_is_refused_by_name(folder: Path, changes: dict[str, Any], reason: str) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", lambda content: content.update(changes))
    assert reason in refusal(folder)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (diffusers.DDPMScheduler(), {"defaults": ("ddpm", 1000, "leading"), "clip": Clipping(keep_eps=True)}),
        (
            diffusers.DDPMScheduler(
                num_train_timesteps=30, variance_type="fixed_large", prediction_type="sample", clip_sample_range=2.0
            ),
            {
                "defaults": ("ddpm", 30, "leading"),
                "variance": "fixed_large",
                "prediction": "x0",
                "clip": Clipping(bound=2.0, keep_eps=True),
            },
        ),
        (diffusers.DDPMScheduler(clip_sample=None), {"clip": Clipping("none", keep_eps=True)}),
        (
            diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False),
            {"defaults": ("ddim", 50, "trailing"), "clip": Clipping("none", keep_eps=True)},
        ),
        (
            diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
            {"defaults": ("ddim", 50, "trailing"), "prediction": "v"},
        ),
        (
            diffusers.DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2"),
            {"defaults": ("dpmpp", 25, "at"), "clip": Clipping("none", keep_eps=True)},
        ),
        (
            diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
            {"defaults": ("dpmpp_sde", 25, "at"), "eta": 0.0, "clip": Clipping("none", keep_eps=True)},
        ),
        (diffusers.DPMSolverMultistepScheduler(solver_order=3), {"defaults": ("dpmpp_3m_full", 25, "at")}),
        (diffusers.PNDMScheduler(), {"defaults": ("plms", 50, "at"), "clip": Clipping("none", keep_eps=True)}),
        (diffusers.EulerDiscreteScheduler(), {"defaults": ("euler", 50, "at")}),
        (
            diffusers.UniPCMultistepScheduler(),
            {"defaults": ("unipc", 25, "at"), "clip": Clipping("none", keep_eps=True)},
        ),
        (diffusers.UniPCMultistepScheduler(solver_order=3), {"defaults": ("unipc", 25, "at")}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_schedulers(folder: Path, scheduler: Any, expected: dict[str, Any]) -> None:
    scheduler.save_pretrained(folder / "scheduler")
    config = load_checkpoint(folder).config
    found = dataclasses.asdict(config) | {"clip": config.clip}
    found["defaults"] = (config.defaults.sampler, config.defaults.steps, config.defaults.spacing.partition(":")[0])
    found["eta"] = config.defaults.eta
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"beta_start": 0.001, "beta_end": 0.03, "num_train_timesteps": 200},
        {"beta_schedule": "scaled_linear"},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 4000},
        {"beta_schedule": "linear", "rescale_betas_zero_snr": True},
        {"trained_betas": [0.01, 0.02, 0.5, 0.9], "num_train_timesteps": 4},
    ],
    ids=str,
)
def test_the_noise_schedule_is_the_same(arguments: dict[str, Any]) -> None:
    """But for diffusers' float32."""
    scheduler = diffusers.DDPMScheduler(**arguments)
    fields = scheduler_from_diffusers({"_class_name": "DDPMScheduler", **scheduler.config})["schedule"]
    ours = ScheduleConfig(**fields).build()
    assert np.allclose(ours.alphas_cumprod, scheduler.alphas_cumprod.numpy(), rtol=1e-3, atol=1e-6)


def save_pipeline(folder: Path, network: nn.Module, scheduler: Any) -> Any:
    """A pipeline of this network, saved as diffusers saves."""
    kind = diffusers.DDIMPipeline if isinstance(scheduler, diffusers.DDIMScheduler) else diffusers.DDPMPipeline
    pipeline = kind(network, scheduler)
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_pipeline(folder, their_network(TINY), diffusers.DDPMScheduler())
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A saved DDPMPipeline to damage."""
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def weights_of(folder: Path) -> Path:
    return folder / "unet" / "diffusion_pytorch_model.safetensors"


def flatten(folder: Path) -> None:
    """The older layout."""
    for part in ("unet", "scheduler"):
        for path in (folder / part).iterdir():
            path.rename(folder / path.name)
        (folder / part).rmdir()


def test_a_saved_pipeline_is_loaded_as_it_is(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.name, checkpoint.config.shape) == ("tiny", (3, 8, 8))
    assert not checkpoint.network.training
    assert_same_forward(checkpoint.network, their_network(TINY), 8)


@pytest.mark.parametrize("index", [True, False])
def test_the_flat_layout_gives_the_same(folder: Path, pristine: Path, index: bool) -> None:
    flatten(folder)
    if not index:
        (folder / "model_index.json").unlink()
    flat, nested = load_checkpoint(folder), load_checkpoint(pristine)
    assert flat.config == nested.config
    assert_same_forward(flat.network, their_network(TINY), 8)


def test_the_old_names_of_attention(folder: Path) -> None:
    """query, key, value and proj_attn, as the files of 2022 have them; half precision is served in float32."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    modern = load_file(weights_of(folder))
    legacy = {}
    for name, tensor in modern.items():
        for today, before in old.items():
            name = name.replace(today, before)
        legacy[name] = tensor.half()
    assert len(legacy.keys() - modern.keys()) == 8 * 4  # 4 layers with bias; one block down, two up, one in the middle
    save_file(legacy, weights_of(folder))
    theirs = their_network(TINY)
    theirs.load_state_dict({name: tensor.half().float() for name, tensor in modern.items()})
    assert_same_forward(load_checkpoint(folder).network, theirs, 8)


def test_a_class_conditional_network_needs_labels(folder: Path) -> None:
    their_network({**TINY, "num_class_embeds": 3}).save_pretrained(folder / "unet")
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config.classes == ("0", "1", "2")
    with pytest.raises(ValueError, match="every call needs labels"):
        checkpoint.network(noise("images", 1, 3, 8, 8), torch.tensor([3]))


SHORT: dict[str, Any] = {"num_train_timesteps": 20}
LONG: dict[str, Any] = {"num_train_timesteps": 200, "timestep_spacing": "trailing"}
V: dict[str, Any] = {"prediction_type": "v_prediction"}  # DDIM with a random network is chaotic if that predicts eps


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.DDPMScheduler(**SHORT),
        pytest.param(diffusers.DDPMScheduler(**SHORT, variance_type="fixed_large"), marks=pytest.mark.slow),
        diffusers.DDPMScheduler(**SHORT, variance_type="fixed_small_log", beta_schedule="squaredcos_cap_v2"),
        diffusers.DDPMScheduler(**SHORT, variance_type="learned_range", **V),
        pytest.param(diffusers.DDIMScheduler(prediction_type="sample"), marks=pytest.mark.slow),
        pytest.param(diffusers.DDIMScheduler(**LONG, clip_sample_range=0.5, **V), marks=pytest.mark.slow),
        diffusers.DDIMScheduler(**LONG, thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5, **V),
        pytest.param(diffusers.DDIMScheduler(**LONG, rescale_betas_zero_snr=True, **V), marks=pytest.mark.slow),
        pytest.param(diffusers.DPMSolverMultistepScheduler(**LONG, **V), marks=pytest.mark.slow),
        diffusers.DPMSolverMultistepScheduler(**LONG, thresholding=True),
        pytest.param(diffusers.FlowMatchEulerDiscreteScheduler(), marks=pytest.mark.slow),
        diffusers.FlowMatchEulerDiscreteScheduler(200, shift=3.0),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_the_pictures_are_the_same(tmp_path: Path, scheduler: Any) -> None:
    """Folder, seeds and nothing else: by default difuso makes what the pipeline makes in as many steps."""
    learned = scheduler.config.get("variance_type") == "learned_range"
    network = their_network({**TINY, "out_channels": 6 if learned else 3})
    pipeline = save_pipeline(tmp_path / "model", network, scheduler)
    checkpoint = load_checkpoint(tmp_path / "model")
    plan = checkpoint.config.plan(checkpoint.schedule)
    mine = sample(plan, checkpoint.denoiser, shape=checkpoint.config.shape, seeds=[7, 8])
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    arguments = {"generator": generators, "num_inference_steps": len(plan), "output_type": "np"}
    theirs = torch.from_numpy(pipeline(batch_size=2, **arguments).images).permute(0, 3, 1, 2)
    assert theirs.std() > 0.05
    mine = (mine / 2 + 0.5).clamp(0, 1)
    # Noise of some hundred values reaches 4, and the image is what is left of it.
    assert_rounded_alike(mine, theirs, steps=checkpoint.config.schedule.num_train_timesteps, largest=4.0)


@pytest.mark.parametrize("layout", ["nested", "flat"])
@pytest.mark.parametrize("name", ["config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors"])
def test_a_missing_file_is_named(folder: Path, layout: str, name: str) -> None:
    if layout == "flat":
        flatten(folder)
    (path,) = folder.rglob(name)
    path.unlink()
    assert refusal(folder).startswith(f"{path.relative_to(folder)} is missing")


def test_pickled_weights_never_run(folder: Path, tmp_path: Path) -> None:
    weights_of(folder).unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "executed")))
    assert refusal(folder) == (
        "unet/diffusion_pytorch_model.safetensors is missing; diffusion_pytorch_model.bin is a pickle, which is "
        "never loaded: `difuso convert` reads it"
    )
    assert not (tmp_path / "executed").exists()


def test_a_pipeline_with_other_parts_is_refused(folder: Path) -> None:
    """The network of a latent model would be taken for one of pixels."""
    edit(folder / "model_index.json", lambda index: index.update(vqvae=["diffusers", "VQModel"]))
    assert "its pipeline has a vqvae besides unet and scheduler" in refusal(folder)
    edit(folder / "model_index.json", lambda index: index.update(vqvae=[None, None], other=[]))
    assert load_checkpoint(folder).config.image_size == 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("mid_block.attentions.0.to_k.weight"), "lacks the tensor mid_block.attentions.0.to_k.weight"),
        (
            lambda w: w.update({"mid_block.attentions.0.to_k.weight": torch.zeros(16, 8)}),
            "mid_block.attentions.0.to_k.weight has shape (16, 8), the config asks for (16, 16)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    folder: Path, change: Callable[[dict[str, Tensor]], object], reason: str
) -> None:
    weights = load_file(weights_of(folder))
    change(weights)
    save_file(weights, weights_of(folder))
    assert reason in refusal(folder)


CONFIG = ModelConfig(
    NATIVE,
    image_size=8,
    schedule=ScheduleConfig("scaled_linear", 50, 0.001, 0.03),
    prediction="v",
    clip=Clipping(keep_eps=True),
    defaults=SamplerDefaults("ddim", 50, "trailing"),
)


def native(**changes: Any) -> Checkpoint:
    config = dataclasses.replace(CONFIG, **changes)
    assert isinstance(config.network, UNetConfig)
    return Checkpoint("tiny", config, awake(config.network), config.schedule.build(), "0" * 64)


WRITTEN: dict[str, dict[str, Any]] = {
    "ddim": {},
    "learned variance": {
        "network": dataclasses.replace(NATIVE, out_channels=6),
        "variance": "learned_range",
        "defaults": SamplerDefaults("ddpm", 50, "leading"),
    },
}
WRITTEN_TOO: dict[str, dict[str, Any]] = {
    "wide": {"image_size": (8, 16)},
    "zero snr, unclipped": {
        "schedule": ScheduleConfig("cosine", 50, zero_terminal_snr=True),
        "clip": Clipping("none", keep_eps=True),
    },
    "listed": {"schedule": ScheduleConfig("listed", 50, betas=tuple(0.001 + 0.0004 * i for i in range(50)))},
    "ddpm, dynamic": {
        "defaults": SamplerDefaults("ddpm", 50, "leading"),
        "clip": Clipping("dynamic", 2.0, 0.9, keep_eps=True),
    },
    "flow": {
        "schedule": ScheduleConfig("flow", 55, shift=1.0),
        "prediction": "flow",
        "clip": Clipping("none"),
        "defaults": SamplerDefaults("euler", 28, "at:" + ",".join(f"{2 * i:.6f}" for i in range(28))),
    },
    "four channels": {"network": dataclasses.replace(NATIVE, in_channels=4, out_channels=4), "channels": 4},
}


@pytest.mark.parametrize("name", [*WRITTEN, *(pytest.param(name, marks=pytest.mark.slow) for name in WRITTEN_TOO)])
def test_what_is_written_is_what_diffusers_reads(tmp_path: Path, name: str) -> None:
    """The pipeline makes the same pictures; and we read the same model again."""
    checkpoint = native(**(WRITTEN | WRITTEN_TOO)[name])
    write_diffusers(tmp_path / "written", checkpoint.config, checkpoint.network)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "written")
    pipeline.set_progress_bar_config(disable=True)
    shape = checkpoint.config.shape
    assert_same_forward(checkpoint.network, pipeline.unet, 8, channels=shape.channels)
    plan = checkpoint.config.plan(checkpoint.schedule)
    mine = sample(plan, checkpoint.denoiser, shape=shape, seeds=[7])
    arguments = {"generator": torch.Generator().manual_seed(7), "num_inference_steps": len(plan)}
    theirs = torch.from_numpy(pipeline(**arguments, output_type="np").images).permute(0, 3, 1, 2)
    mine = (mine / 2 + 0.5).clamp(0, 1)
    # Noise of some hundred values reaches 4, and the image is what is left of it.
    assert_rounded_alike(mine, theirs, steps=checkpoint.config.schedule.num_train_timesteps, largest=4.0)

    again = load_checkpoint(tmp_path / "written")
    assert np.allclose(again.schedule.betas, checkpoint.schedule.betas, rtol=1e-12)
    assert dataclasses.replace(again.config, schedule=checkpoint.config.schedule) == checkpoint.config
    assert all(torch.equal(w, again.network.state_dict()[name]) for name, w in checkpoint.network.state_dict().items())


@pytest.mark.parametrize(
    ("defaults", "kind"),
    [
        (SamplerDefaults("dpmpp", 25, "trailing"), "DDIMScheduler"),
        (SamplerDefaults("dpmpp", 25, "trailing", 1.0), "DDPMScheduler"),
        (SamplerDefaults("ddim", 25, "trailing", 1.0), "DDIMScheduler"),
    ],
    ids=str,
)
def test_a_solver_is_written_as_the_scheduler_of_first_order_for_the_same_equation(
    defaults: SamplerDefaults, kind: str
) -> None:
    config = dataclasses.replace(CONFIG, defaults=defaults)
    assert scheduler_to_diffusers(config)["_class_name"] == kind


def test_written_sums_are_checked(tmp_path: Path) -> None:
    """A folder that has SHA256SUMS is held to it."""
    checkpoint = native()
    write_diffusers(tmp_path / "written", checkpoint.config, checkpoint.network)
    load_checkpoint(tmp_path / "written")
    edit(tmp_path / "written" / "scheduler" / "scheduler_config.json", lambda content: content.update(beta_end=0.03))
    assert refusal(tmp_path / "written").startswith("scheduler/scheduler_config.json does not match its SHA-256 sum")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": dataclasses.replace(NATIVE, patch=2)}, "patch 2"),
        ({"network": dataclasses.replace(NATIVE, pixel_head=8)}, "pixel_head 8"),
        ({"network": dataclasses.replace(NATIVE, mid_attention=False)}, "mid_attention False"),
        ({"network": dataclasses.replace(NATIVE, channel_mult=(2, 3))}, "channel_mult (2, 3): it must begin with 1"),
        ({"network": dataclasses.replace(NATIVE, heads=2)}, "heads 2 at several widths"),
        ({"network": dataclasses.replace(NATIVE, out_channels=6)}, "variance fixed_small with a learned variance"),
        ({"prediction": "flow"}, "prediction flow with a schedule of the type scaled_linear"),
        ({**OUR_FLOW, "schedule": ScheduleConfig("flow", shift=0.5)}, "shift 0.5: it must be at least 1"),
        ({**OUR_FLOW, "clip": Clipping("static")}, "clip static with a flow"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_diffusers_does_not_have_is_not_written(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    checkpoint = native(**changes)
    with pytest.raises(CheckpointError) as caught:
        write_diffusers(tmp_path / "written", checkpoint.config, checkpoint.network)
    assert str(caught.value) == f"diffusers has no equivalent of {reason}"
    assert not list(tmp_path.iterdir())


def test_a_classifier_is_not_left_behind(tmp_path: Path) -> None:
    made = checkpoint_of(UNetConfig(num_classes=len(CLASSES), **NETWORK), classes=CLASSES, classifier=CLASSIFIER)
    with pytest.raises(CheckpointError, match="no place for the classifier"):
        write_diffusers(tmp_path / "written", made.config, made.network)
