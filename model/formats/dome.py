"""Reads checkpoints of dome272/Diffusion-Models-pytorch; `PaperUNet` uses the same names."""

from ..folders.config import ModelConfig, ScheduleConfig
from ..networks.build import unfilled
from ..networks.configs import PaperUNetConfig
from ..networks.paper_unet import PaperUNet
from .facts import DomeFacts, class_names
from .naming import Weights, adopt, size_of


def read_unet(weights: Weights, facts: DomeFacts) -> tuple[ModelConfig, PaperUNet]:
    """Makes the model of a state dict. The original sampler adds noise of variance beta, hence `fixed_large`.

    The original never trains timestep 0. Sampling visits it nevertheless: timestep 1, which was trained, is as good.
    """
    config = PaperUNetConfig(
        in_channels=size_of(weights, "inc.double_conv.0.weight", 1),
        out_channels=size_of(weights, "outc.weight", 0),
        time_dim=size_of(weights, "down1.emb_layer.1.weight", 1),
        num_classes=size_of(weights, "label_emb.weight", 0) if "label_emb.weight" in weights else None,
    )
    network = unfilled(PaperUNet, config)
    adopt(network, weights, {name: name for name, _ in network.named_modules()})
    return ModelConfig(
        network=config,
        image_size=facts.image_size,
        channels=config.in_channels,
        schedule=ScheduleConfig("linear", 1000, 1e-4, 0.02),
        variance="fixed_large",
        classes=class_names(config.num_classes, facts.classes),
    ), network
