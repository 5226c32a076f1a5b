"""Reads checkpoints of lucidrains/denoising-diffusion-pytorch from its version 1.9 on; `LucidUNet` uses the same names.

A state dict of its GaussianDiffusion has the betas and, in the weights of the loss, the objective. A Unet alone has
neither, so `facts` must give both.
"""

from typing import Literal

import numpy as np
from torch import Tensor

from ..errors import CheckpointError
from ..folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from ..networks.build import unfilled
from ..networks.configs import LucidUNetConfig
from ..networks.lucid_unet import LucidUNet
from ..networks.network_config import multiple
from ..plans.prediction import Prediction
from ..plans.schedule import FloatTable, NoiseSchedule
from .facts import LucidFacts, Schedule, schedule_of
from .naming import Weights, adopt, count, refused, size_of, tensor_of

UNET = "model."  # prefix of the Unet in a GaussianDiffusion
PREDICTIONS: dict[str, Prediction] = {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}
BUFFERS = {
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
    *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    "loss_weight",
}


@refused("the facts contradict the weights")
def read_unet(weights: Weights, facts: LucidFacts) -> tuple[ModelConfig, LucidUNet]:
    """Makes the model of a state dict of a GaussianDiffusion or of a Unet.

    By default it samples as theirs does with `sampling_timesteps`: DDIM from T-1, ending at x0.
    """
    if not facts.auto_normalize:
        raise CheckpointError("the facts give auto_normalize false, but the images of difuso lie between -1 and 1")
    prefix = UNET if f"{UNET}init_conv.weight" in weights else ""
    unet = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    config = _unet_config(unet, facts)
    learned = config.out_channels == 2 * config.in_channels
    if prefix:
        buffers = {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}
        schedule, objective = _diffusion(buffers, facts)
    else:
        schedule, objective = _given(facts)
    network = unfilled(LucidUNet, config)
    adopt(network, unet, {name: name for name, _ in network.named_modules()})
    return ModelConfig(
        network=config,
        image_size=facts.image_size,
        channels=config.in_channels,
        schedule=schedule,
        # LearnedGaussianDiffusion trains and samples noise, whatever its objective says.
        prediction="eps" if learned else PREDICTIONS[objective],
        variance="learned_range" if learned else "fixed_small",
        defaults=SamplerDefaults("ddim", min(50, schedule.num_train_timesteps), "trailing"),
    ), network


def _unet_config(weights: Weights, facts: LucidFacts) -> LucidUNetConfig:
    _check_kind(weights)
    channels = size_of(weights, "time_mlp.1.weight", 0) // 4
    levels = range(count(weights, "downs"))
    # The last level keeps the resolution with one convolution, the others halve it with the second of two layers.
    convs = [f"downs.{level}.3.weight" if level == levels[-1] else f"downs.{level}.3.1.weight" for level in levels]
    memories = [f"downs.{level}.2.mem_kv" for level in levels]
    heads = [size_of(weights, name, 1) for name in memories]
    full = [level for level in levels if f"downs.{level}.2.to_out.weight" in weights]
    fourier, grouped = "time_mlp.0.weights", "final_res_block.block1.norm.weight"
    return LucidUNetConfig(
        in_channels=size_of(weights, "init_conv.weight", 1),
        out_channels=size_of(weights, "final_conv.weight", 0),
        channels=channels,
        init_channels=size_of(weights, "init_conv.weight", 0),
        channel_mult=tuple(multiple(size_of(weights, name, 0), channels) for name in convs),
        attention_levels=tuple(full),
        attention_heads=tuple(heads),
        attention_head_channels=tuple(
            size_of(weights, name, 3 if level in full else 2) for level, name in enumerate(memories)
        ),
        theta=facts.sinusoidal_pos_emb_theta,
        fourier_features=size_of(weights, fourier, 0) if fourier in weights else None,
        groups=facts.resnet_block_groups if grouped in weights else None,
        dropout=facts.dropout,
    )


def _check_kind(weights: Weights) -> None:
    """Refuses the variants of the Unet that cannot be served."""
    if "null_classes_emb" in weights:
        raise CheckpointError(
            "this is the class-conditional Unet of lucidrains' classifier_free_guidance.py, which cannot be read: "
            "only the Unet without classes can"
        )
    if "downs.0.2.mem_kv" not in weights:
        raise CheckpointError(
            "these weights were saved by a version of denoising-diffusion-pytorch before 1.9, whose attention has no "
            "mem_kv and computes otherwise: only those of later versions can be read"
        )
    channels = size_of(weights, "init_conv.weight", 1), size_of(weights, "final_conv.weight", 0)
    if channels[0] == 2 * channels[1]:
        raise CheckpointError(
            "this network was trained with self_condition: it takes its last prediction with the noisy image, and "
            "difuso gives a network the noisy image alone"
        )
    if channels[1] not in (channels[0], 2 * channels[0]):
        raise CheckpointError(f"a network with {channels[0]} channels in and {channels[1]} out is not a denoiser")


def _diffusion(buffers: Weights, facts: LucidFacts) -> tuple[ScheduleConfig, str]:
    """Returns schedule and objective as the buffers of a GaussianDiffusion show them, which the facts may repeat."""
    if "betas" not in buffers:
        raise CheckpointError("these weights belong to a continuous-time diffusion, which has no timesteps to serve")
    if unknown := buffers.keys() - BUFFERS:
        raise CheckpointError(f"the checkpoint holds a tensor that does not belong to this diffusion: {min(unknown)}")
    betas = _numbers(buffers, "betas")
    objective = _objective(_numbers(buffers, "loss_weight"), NoiseSchedule(betas).alphas_cumprod)
    if facts.objective not in (None, objective):
        raise CheckpointError(f"the facts give objective {facts.objective}, but the weights have {objective}")
    if facts.timesteps not in (None, len(betas)):
        raise CheckpointError(f"the facts give timesteps {facts.timesteps}, but the weights have {len(betas)}")
    if facts.beta_schedule is not None:
        named = _named(facts.beta_schedule, len(betas)).build().betas
        if not np.allclose(named, betas, rtol=1e-3):
            raise CheckpointError(f"the facts give beta_schedule {facts.beta_schedule}, but the weights have another")
    return _listed(betas), objective


def _objective(loss_weight: FloatTable, alphas_cumprod: FloatTable) -> str:
    """Returns the objective with these weights of the loss.

    They are min(SNR, gamma) divided by SNR, 1 or SNR + 1, with an infinite gamma unless `min_snr_loss_weight` was
    chosen (Hang et al. 2023, section 3.4).
    """
    if loss_weight.shape != alphas_cumprod.shape:
        raise CheckpointError(
            f"loss_weight and betas must have the same length, not {loss_weight.shape} and {alphas_cumprod.shape}"
        )
    snr = alphas_cumprod / (1 - alphas_cumprod)
    for objective, divisor in {"pred_noise": snr, "pred_x0": np.ones_like(snr), "pred_v": snr + 1}.items():
        clipped = loss_weight * divisor
        if np.allclose(clipped, np.minimum(snr, clipped.max()), rtol=1e-3, atol=0):
            return objective
    raise CheckpointError(
        "loss_weight is not that of an objective of GaussianDiffusion: the checkpoint is of a variant"
    )


def _given(facts: LucidFacts) -> tuple[ScheduleConfig, str]:
    """Returns schedule and objective as the facts give them."""
    if facts.objective is None or facts.beta_schedule is None or facts.timesteps is None:
        raise CheckpointError(
            "the weights of a Unet alone do not say how it was trained: the facts must give objective, beta_schedule "
            'and timesteps, for example "objective": "pred_v", "beta_schedule": "sigmoid", "timesteps": 1000'
        )
    return _named(facts.beta_schedule, facts.timesteps), facts.objective


def _named(beta_schedule: Schedule | Literal["sigmoid"], timesteps: int) -> ScheduleConfig:
    return _listed(_sigmoid(timesteps)) if beta_schedule == "sigmoid" else schedule_of(beta_schedule, timesteps)


def _sigmoid(timesteps: int) -> FloatTable:
    """Returns the betas of alphas_cumprod that fall as a sigmoid (Jabri et al. 2022), shape (timesteps,)."""
    course = 1 / (1 + np.exp(-np.linspace(-3, 3, timesteps + 1, dtype=np.float64)))
    # The ends are rounded to float32 there, which shows at the noisy end.
    first, last = map(float, course[[0, -1]].astype(np.float32))
    levels = (last - course) / (last - first)
    return np.clip(1 - levels[1:] / levels[:-1], 0, 0.999)


def _listed(betas: FloatTable) -> ScheduleConfig:
    return ScheduleConfig("listed", len(betas), betas=tuple(betas.tolist()))


def _numbers(weights: Weights, name: str) -> FloatTable:
    tensor: Tensor = tensor_of(weights, name)
    return tensor.double().numpy()
