"""Reads checkpoints of NCSNpp from yang-song/score_sde_pytorch: DDPM++ and NCSN++ (Song et al. 2021)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, refused
from ..folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from ..networks.build import unfilled
from ..networks.sigma_configs import Decoder, Encoder, SongUNetConfig
from ..plans.clipping import Clipping
from ..plans.prediction import Preconditioning
from .edm import CALLS, NOT_SERVED
from .facts import ScoreSDEFacts
from .naming import Weights, adopt, renamed, size_of, tensor_of

PREFIX = "all_modules"
ENCODERS: dict[str, Encoder] = {"none": "standard", "input_skip": "skip", "residual": "residual"}
DECODERS: dict[str, Decoder] = {"none": "standard", "output_skip": "skip"}
BLOCK = {
    "norm0": "GroupNorm_0",
    "conv0": "Conv_0",
    "affine": "Dense_0",
    "norm1": "GroupNorm_1",
    "conv1": "Conv_1",
    "skip": "Conv_2",
}
ATTENTION = {"attention.norm": "GroupNorm_0", "attention.qkv": "qkv", "attention.proj": "proj"}


@refused(NOT_SERVED)
def read_unet(weights: Weights, facts: ScoreSDEFacts) -> tuple[ModelConfig, nn.Module]:
    """Makes the model of a state dict of NCSNpp."""
    if not any(name.endswith(".Conv_2.weight") for name in weights):
        raise CheckpointError(
            "this network has no residual blocks of the kind biggan: of score_sde's networks only ncsnpp with "
            "resblock_type biggan can be read"
        )
    if not facts.continuous and facts.sde == "vesde":
        raise CheckpointError(
            "this network was trained on the listed sigmas of a discrete VE SDE: only continuous ones can be read"
        )
    config = network_config(weights, facts)
    network = unfilled(config)
    adopt(network, _merged(weights), _names(network, config))
    return ModelConfig(
        network=config,
        image_size=facts.image_size,
        channels=config.in_channels,
        clip=Clipping("none"),
        **_diffusion(facts),
    ), network


def _diffusion(facts: ScoreSDEFacts) -> dict[str, Any]:
    """Returns the schedule, how the network is called and the default settings."""
    total = facts.num_scales
    ends = facts.beta_min / total, facts.beta_max / total
    if not facts.continuous:
        ancestral = SamplerDefaults("ddpm", total, "linspace")
        return {"schedule": ScheduleConfig("linear", total, *ends), "variance": "fixed_large", "defaults": ancestral}
    if facts.sde == "vpsde":
        schedule, kind = ScheduleConfig("continuous_linear", total, *ends), Preconditioning("vp")
        heun = SamplerDefaults("heun", CALLS, "karras")
    else:  # its images lie in 0..1, where noise is half as large as in -1..1
        sigmas = 2 * facts.sigma_min, 2 * facts.sigma_max
        schedule = ScheduleConfig("geometric", total, sigma_min=sigmas[0], sigma_max=sigmas[1])
        kind = Preconditioning("ve")
        heun = SamplerDefaults("heun", CALLS, "linspace")  # a Karras grid does not reach the sigmas of large images
    return {"schedule": schedule, "preconditioning": kind, "prediction": kind.prediction, "defaults": heun}


def network_config(weights: Weights, facts: ScoreSDEFacts) -> SongUNetConfig:
    """Returns the architecture of the facts; raises CheckpointError if weights contradict it, or it is not ours."""
    fourier = f"{PREFIX}.0.W" in weights  # the embedding of times by random frequencies
    if fourier != (facts.sde == "vesde"):
        raise CheckpointError(f"the facts give sde {facts.sde}, but the weights are of the other one")
    channels = size_of(weights, f"{PREFIX}.{3 if fourier else 2}.weight", 1)
    levels = range(len(facts.ch_mult))
    return SongUNetConfig(
        in_channels=channels,
        out_channels=channels,
        channels=facts.nf,
        channel_mult=facts.ch_mult,
        num_res_blocks=facts.num_res_blocks,
        attention_levels=tuple(level for level in levels if facts.image_size >> level in facts.attn_resolutions),
        noise_channels=2 * facts.nf if fourier else facts.nf,
        emb_channels=4 * facts.nf,
        fourier=fourier,
        encoder=ENCODERS[facts.progressive_input],
        decoder=DECODERS[facts.progressive],
        resample="binomial" if facts.fir else "box",
        dropout=facts.dropout,
    )


def _merged(weights: Weights) -> dict[str, Tensor]:
    """Returns the weights without the list of sigmas, and with the four matrices of each attention as convolutions."""
    merged = {name: tensor for name, tensor in weights.items() if name != "sigmas" and ".NIN_" not in name}
    if f"{PREFIX}.0.W" in merged:
        merged[f"{PREFIX}.0.frequencies"] = merged.pop(f"{PREFIX}.0.W")
    for module in {name.partition(".NIN_")[0] for name in weights if ".NIN_" in name}:
        matrices = [tensor_of(weights, f"{module}.NIN_{part}.W").T for part in range(4)]
        biases = [tensor_of(weights, f"{module}.NIN_{part}.b") for part in range(4)]
        merged[f"{module}.qkv.weight"], merged[f"{module}.qkv.bias"] = torch.cat(matrices[:3]), torch.cat(biases[:3])
        merged[f"{module}.proj.weight"], merged[f"{module}.proj.bias"] = matrices[3].contiguous(), biases[3]
    return merged


def _names(network: nn.Module, config: SongUNetConfig) -> dict[str, str]:
    """Returns the foreign names of modules by ours: there all are in one list, in the order of their use."""
    numbers = iter(range(10_000))
    names = {"": f"{PREFIX}.{next(numbers)}"} if config.fourier else {}
    names |= {f"emb.{index}": f"{PREFIX}.{next(numbers)}" for index in range(2)}
    for half, places in {"enc": config.encoder_places(), "dec": config.decoder_places()}.items():
        for index, (kind, _, _) in enumerate(places):
            here, layer = f"{half}.{index}", network.get_submodule(f"{half}.{index}")
            names |= dict(_layer_names(here, kind, layer, numbers))
    return names


def _layer_names(here: str, kind: str, layer: nn.Module, numbers: Iterator[int]) -> Iterator[tuple[str, str]]:
    there = f"{PREFIX}.{next(numbers)}"
    match kind:
        case "conv":
            yield here, there
        case "skip":
            yield here, f"{there}.Conv_0"
        case "residual":
            yield here, f"{there}.Conv2d_0"
        case "out":
            yield f"{here}.norm", there
            yield f"{here}.conv", f"{PREFIX}.{next(numbers)}"
        case _:
            yield from renamed(here, there, BLOCK).items()
            if not isinstance(layer.attention, nn.Identity):
                yield from renamed(here, f"{PREFIX}.{next(numbers)}", ATTENTION).items()


def averaged(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Returns the averaged weights of a trainer's checkpoint, in the order of its tensors; None for other files."""
    model, ema = content.get("model"), content.get("ema")
    if not isinstance(model, Mapping) or not isinstance(ema, Mapping) or "shadow_params" not in ema:
        return None
    fixed = tuple(f"{prefix}{name}" for prefix in ("", "module.") for name in ("sigmas", f"{PREFIX}.0.W"))
    trained = [name for name in model if name not in fixed]
    shadows = ema["shadow_params"]
    if not isinstance(shadows, list) or len(shadows) != len(trained):
        raise CheckpointError(f"the averages of {len(trained)} tensors must be as many, in ema.shadow_params")
    return {**model, **dict(zip(trained, shadows, strict=True))}
