"""What a folder's scheduler draws, difuso draws by default: each scheduler's own loop, in float64, is the reference."""

from __future__ import annotations

import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from difuso.model import CheckpointError, ModelConfig, sample
from difuso.model.folders.config_json import FORMAT, config_from_json, config_to_json
from difuso.model.formats.diffusers.config import read_diffusers_config
from difuso.model.formats.diffusers.levels import grid_of
from difuso.model.formats.diffusers.scheduler import scheduler_from_diffusers
from difuso.model.networks.configs import UNetConfig
from difuso.model.networks.preconditioned import denoiser_of
from difuso.model.noise import draw_noise, image_generator
from difuso.model.plans.plan import Column
from tests.unet2d import TINY

diffusers = pytest.importorskip("diffusers")
stats = pytest.importorskip("scipy.stats")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers"),
]

SHAPE, SEEDS = (3, 8, 8), [7, 8]
IN_SIGMA = ("EDM", "Euler", "Heun", "LMS", "KDPM2")  # whose state is y = x / alpha
V: dict[str, Any] = {"prediction_type": "v_prediction"}
KARRAS, EXPONENTIAL, BETA = ({f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta"))
LOW: dict[str, Any] = {"final_sigmas_type": "sigma_min"}
ZERO_SNR: dict[str, Any] = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **V}
LEADING: dict[str, Any] = {"timestep_spacing": "leading", "steps_offset": 1}


class SmoothNetwork(nn.Module):
    """A network in float64 that predicts v from two fixed convolutions: no run through it is chaotic."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale  # of the time
        generator = torch.Generator().manual_seed(0)
        self.inner = torch.randn((8, 3, 3, 3), generator=generator, dtype=torch.float64) / 6
        self.outer = torch.randn((3, 8, 3, 3), generator=generator, dtype=torch.float64) / 6

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.conv2d(x, self.inner, padding=1) + (self.scale * t.double().view(-1, 1, 1, 1) / 200).sin()
        return torch.conv2d(h.tanh(), self.outer, padding=1)


NETWORK = SmoothNetwork()


def config_of(folder: Path, scheduler: dict[str, Any]) -> ModelConfig:
    """Returns the config of a folder with a tiny network and this scheduler_config.json."""
    for part in ("unet", "scheduler"):
        (folder / part).mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    network = {name: list(each) if isinstance(each, tuple) else each for name, each in TINY.items()}
    (folder / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", **network}))
    return read_diffusers_config(folder)


def exact(scheduler: Any, config: ModelConfig) -> Any:
    """Gives a scheduler alphas_cumprod without the rounding of a product of a thousand float32 factors."""
    if not hasattr(scheduler, "alphas_cumprod"):
        return scheduler
    abar = torch.from_numpy(config.schedule.build().alphas_cumprod.copy())
    if "LCM" not in type(scheduler).__name__:
        abar[-1] = abar[-1] or 2**-24  # as diffusers has it elsewhere
    scheduler.alphas_cumprod = abar
    if getattr(scheduler, "final_alpha_cumprod", 1) < 1:
        scheduler.final_alpha_cumprod = abar[0]
    if hasattr(scheduler, "lambda_t"):
        scheduler.lambda_t = (abar / (1 - abar)).log() / 2
    return scheduler


def theirs(scheduler: Any, steps: int) -> Tensor:
    """Returns x after the scheduler's loop, which begins at the x_T of ours, and draws the noise that ours draws.

    In float64, so that no rounding hides another formula, or looks like one.
    """
    generators = [image_generator(seed) for seed in SEEDS]
    x = draw_noise(generators, SHAPE).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float32", np.float64)
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "linspace", partial(torch.linspace, dtype=torch.float64))
        module: Any = inspect.getmodule(type(scheduler))
        patch.setattr(module, "randn_tensor", lambda *_, **__: draw_noise(generators, SHAPE).double(), raising=False)
        scheduler.set_timesteps(steps)
        scaled = type(scheduler).__name__.startswith(IN_SIGMA)
        y = x * (scheduler.sigmas[0] ** 2 + 1) ** 0.5 if scaled else x
        for t in scheduler.timesteps:
            scaled_input = scheduler.scale_model_input(y, t) if hasattr(scheduler, "scale_model_input") else y
            y = scheduler.step(NETWORK(scaled_input, t.expand(len(SEEDS))), t, y).prev_sample
    return y / (scheduler.sigmas[-1] ** 2 + 1) ** 0.5 if scaled else y


def ours(config: ModelConfig) -> Tensor:
    schedule = config.schedule.build()
    assert isinstance(config.network, UNetConfig)
    denoiser = denoiser_of(SmoothNetwork(config.network.timestep_scale), config.preconditioning, schedule)
    return sample(config.plan(schedule), denoiser, shape=SHAPE, seeds=SEEDS, dtype=torch.float64)


EQUAL: list[tuple[str, dict[str, Any]]] = [
    ("EulerDiscrete", V),
    ("EulerDiscrete", {**KARRAS, **LOW, **V}),
    ("EulerDiscrete", ZERO_SNR),
    ("EulerDiscrete", {**EXPONENTIAL, **LEADING, **V}),
    ("HeunDiscrete", {**V, "clip_sample": True}),
    ("HeunDiscrete", {**BETA, "prediction_type": "sample"}),
    ("LMSDiscrete", V),
    ("LMSDiscrete", {**KARRAS, "prediction_type": "sample"}),
    ("KDPM2Discrete", V),
    ("KDPM2Discrete", {**KARRAS, **V}),
    ("PNDM", {"skip_prk_steps": True}),
    ("PNDM", {"skip_prk_steps": True, "set_alpha_to_one": True, "steps_offset": 1}),
    ("DEISMultistep", V),
    ("DEISMultistep", {"solver_order": 3, **KARRAS, **V}),
    ("DEISMultistep", {"solver_order": 1, **EXPONENTIAL, **V}),
    ("DPMSolverMultistep", {"euler_at_final": True, **V}),
    ("DPMSolverMultistep", {**KARRAS, **V, "beta_schedule": "squaredcos_cap_v2"}),
    ("DPMSolverMultistep", {**BETA, **LOW, **V}),
    ("DPMSolverMultistep", {"use_lu_lambdas": True, **V}),
    ("DPMSolverMultistep", {**ZERO_SNR, "thresholding": True}),
    ("DPMSolverMultistep", {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1, **V}),
    ("DPMSolverMultistep", {"solver_order": 3, **V}),
    ("DPMSolverMultistep", {"solver_order": 3, **KARRAS, **LOW, **V}),
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", **V}),
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", "solver_order": 1, **KARRAS, **V}),
    ("DPMSolverSinglestep", V),
    ("DPMSolverSinglestep", {**KARRAS, **LOW, **V}),
    ("UniPCMultistep", {**EXPONENTIAL, **V}),
    ("UniPCMultistep", {**KARRAS, **V}),
    ("DDIM", {"set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}),
    ("DDIM", {"num_train_timesteps": 130, "thresholding": True, **V}),
    ("EulerAncestralDiscrete", V),
    ("KDPM2AncestralDiscrete", {**LEADING, **V}),
    ("EDMEuler", {"rho": 5.0}),
    ("EDMEuler", {"sigma_schedule": "exponential", "sigma_max": 20.0, **LOW}),
    ("EDMDPMSolverMultistep", {"sigma_data": 1.0}),
    ("EDMDPMSolverMultistep", {"solver_order": 3, **LOW}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0, "shift_terminal": 0.1}),
    ("FlowMatchEulerDiscrete", {"num_train_timesteps": 200, **KARRAS}),
    ("FlowMatchEulerDiscrete", BETA),
    ("FlowMatchHeunDiscrete", {"shift": 3.0}),
    ("FlowMatchHeunDiscrete", {"num_train_timesteps": 40}),
    ("IPNDM", {}),
    ("LCM", {"clip_sample": True, **V}),
    ("LCM", {"original_inference_steps": 30, "thresholding": True, **V}),
    ("LCM", ZERO_SNR),
]


@pytest.mark.parametrize(("kind", "fields"), EQUAL, ids=str)
def test_a_run_without_settings_is_the_schedulers_loop(kind: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """From the same x_T to the same image, relative to its largest pixel; and with the same noise on the way."""
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**fields)
    config = config_of(tmp_path, json.loads(scheduler.to_json_string()))
    assert config.instead_of is None
    steps = 28 if kind.startswith("Flow") else 25 if "Multistep" in kind or "Singlestep" in kind else 50
    steps = min({"IPNDM": 100, "LCM": 4}.get(kind, steps), fields.get("num_train_timesteps", 1000) // 2)
    mine, reference = ours(config), theirs(exact(scheduler, config), steps)
    assert reference.std() > 0.01
    assert (mine - reference).abs().max() <= 1e-5 * max(1.0, float(reference.abs().max()))


@pytest.mark.parametrize(
    ("kind", "fields", "sampler", "reason"),
    [
        ("DPMSolverSDE", {}, "dpmpp", "its noise is that of one Brownian path"),
        ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver"}, "dpmpp_sde", "its algorithm_type sde-dpmsolver is"),
        (
            "DPMSolverMultistep",
            {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
            "dpmpp_3m_full",
            "its algorithm_type sde-dpmsolver++",
        ),
        ("DPMSolverMultistep", {"solver_type": "heun"}, "dpmpp", "its solver_type heun is not known here"),
        ("DPMSolverMultistep", {**LOW, "euler_at_final": True}, "dpmpp", "its last step is of first order"),
        ("DPMSolverSinglestep", {"solver_order": 3}, "dpmpp_2s", "its steps are of order 3"),
        ("UniPCMultistep", {"solver_order": 3}, "unipc", "it is of order 3"),
        ("UniPCMultistep", {"solver_type": "bh1"}, "unipc", "its solver_type bh1 is not known here"),
        ("PNDM", {}, "plms", "its skip_prk_steps False is not known here"),
        ("PNDM", {"skip_prk_steps": True, "timestep_spacing": "linspace"}, "plms", "its steps do not end where"),
        ("PNDM", {"skip_prk_steps": True, **V}, "plms", "it extrapolates v"),
        ("KDPM2AncestralDiscrete", {}, "dpm2_ancestral", "its second call in a step is at a timestep"),
        ("EulerDiscrete", {"interpolation_type": "log_linear"}, "euler", "its interpolation_type log_linear"),
        ("DEISMultistep", {"num_train_timesteps": 20}, "deis", "in fewer than 15 steps its last ones are of lower"),
        ("DDIM", {"timestep_spacing": "linspace"}, "ddim", "its steps do not end where the next ones begin"),
        ("EDMDPMSolverMultistep", {"num_train_timesteps": 20, **LOW}, "dpmpp", "in fewer than 15 steps its last ones"),
        ("LCM", {"timestep_scaling": 2.0}, "lcm", "its timestep_scaling 2.0 is not known here"),
        ("LCM", {"num_train_timesteps": 100}, "lcm", "its c_skip is not 0 at timestep 25"),
    ],
    ids=str,
)
def test_what_draws_something_else_is_named(
    kind: str, fields: dict[str, Any], sampler: str, reason: str, tmp_path: Path
) -> None:
    config = config_of(tmp_path, {"_class_name": f"{kind}Scheduler", **fields})
    assert config.defaults.sampler == sampler
    assert f"{config.instead_of}".startswith(f"{kind}Scheduler: {reason}")
    assert config_from_json(config_to_json(config)).instead_of == config.instead_of


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"_class_name": "VQDiffusionScheduler"}, "'VQDiffusionScheduler' is not supported; supported are DDPM"),
        ({"_class_name": "IPNDMScheduler", "trained_betas": [0.1, 0.2]}, "trained_betas must be null"),
        ({"_class_name": "LCMScheduler", "original_inference_steps": 1001}, "must lie between 1 and 1000, not 1001"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas is for flows"),
        ({"_class_name": "DEISMultistepScheduler", "solver_order": 4}, "solver_order must be 1 to 3, not 4"),
        ({"_class_name": "DDIMScheduler", "set_alpha_to_one": False}, "set_alpha_to_one must not be false"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}, "prediction_type must be epsilon"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "stochastic_sampling": True}, "stochastic_sampling must"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused_by_name(content: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        scheduler_from_diffusers(content)
    assert reason in str(caught.value)


def test_fields_that_a_scheduler_does_not_have_change_nothing() -> None:
    """A scheduler that was made from another one's config keeps its fields."""
    stray = {**KARRAS, **LOW, "thresholding": True, "rescale_betas_zero_snr": True, "set_alpha_to_one": False}
    for name, unknown in (("PNDM", stray), ("LMSDiscrete", {**LOW, "thresholding": True, "solver_order": 3})):
        own = {"_class_name": f"{name}Scheduler", "set_alpha_to_one": False}
        assert scheduler_from_diffusers({**own, **unknown}) == scheduler_from_diffusers(own)
    aliased = {"_class_name": "DPMSolverMultistepScheduler", "solver_type": "bh2", "algorithm_type": "deis"}
    assert scheduler_from_diffusers(aliased)["instead_of"] is None


def test_the_grid_of_the_beta_distribution() -> None:
    """Its quantiles are those of SciPy, which diffusers asks."""
    shares = np.linspace(0, 1, 50)
    grid = grid_of({"use_beta_sigmas": True}, 0.0, 1.0, 50)
    assert grid == pytest.approx(stats.beta.ppf(shares, 0.6, 0.6), abs=1e-12)


KINDS = sorted({kind for kind, _ in EQUAL if not kind.startswith(("Flow", "EDM", "IPNDM"))})


@settings(max_examples=25, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS), total=st.integers(2, 120))
def test_every_config_has_a_plan_that_draws_finite_images(data: st.DataObject, kind: str, total: int) -> None:
    content = {
        "_class_name": f"{kind}Scheduler",
        "num_train_timesteps": total,
        "timestep_spacing": data.draw(st.sampled_from(["leading", "linspace", "trailing"])),
        "beta_schedule": data.draw(st.sampled_from(["linear", "scaled_linear", "squaredcos_cap_v2"])),
        "prediction_type": data.draw(st.sampled_from(["sample", "v_prediction"])),
        "solver_order": data.draw(st.integers(1, 3)),
        "skip_prk_steps": data.draw(st.booleans()),
        "original_inference_steps": total,
        "final_sigmas_type": data.draw(st.sampled_from(["zero", "sigma_min"])),
        f"use_{data.draw(st.sampled_from(['no', 'karras', 'exponential', 'beta']))}_sigmas": True,
    }
    network = {"type": "unet", "channels": 8, "channel_mult": [1], "groups": 4, "heads": 1, "attention_levels": []}
    config = config_from_json({"format": FORMAT, "network": network, **scheduler_from_diffusers(content)})
    assert np.isfinite(config.plan(config.schedule.build()).table[:, Column.G :]).all()
    assert ours(config).isfinite().all()
