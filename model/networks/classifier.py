"""The noisy classifier of classifier guidance (Dhariwal & Nichol 2021, section 4): the downward half of a U-Net."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import ClassifierConfig
from .layers import Convolution, GroupNorm, RowLinear, sinusoidal_embedding
from .unet import Downsample, down_layers, mid_layers


class AttentionPool(nn.Module):
    """Attention from the mean to itself and every position, as in CLIP's image encoder: (B, C, H, W) to (B, out)."""

    def __init__(self, channels: int, *, positions: int, head_channels: int, out: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        # Not a quotient, which would import torch's compiler where a network is built without memory.
        self.positional_embedding = nn.Parameter(torch.normal(0.0, channels**-0.5, (channels, positions + 1)))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = RowLinear(channels, out)

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=2, keepdim=True), x], dim=2) + self.positional_embedding
        qkv = self.qkv(x.transpose(1, 2)).reshape(b, -1, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()  # each (B, heads, 1 + HW, C / heads)
        out = F.scaled_dot_product_attention(q[:, :, :1], k, v)  # only the mean has a query
        return self.proj(out.reshape(b, c))


class Classifier(nn.Module):
    """Predicts the class of a noisy image; `forward` raises RuntimeError for a size that is not the config's."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        unet = config.unet
        emb_dim = 4 * unet.channels
        self.time_mlp = nn.Sequential(RowLinear(unet.channels, emb_dim), nn.SiLU(), RowLinear(emb_dim, emb_dim))
        self.conv_in = Convolution(unet.in_channels * unet.patch**2, unet.widths[0], 3, padding=1)
        self.down, _ = down_layers(unet)
        self.mid = mid_layers(unet)
        self.norm_out = GroupNorm(unet.groups, unet.widths[-1], unet.norm_eps)
        self.pool = AttentionPool(
            unet.widths[-1],
            positions=(config.image_size // unet.size_multiple) ** 2,
            head_channels=config.head_channels,
            out=config.num_classes,
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Returns the logits, shape (B, num_classes), of noisy images at timesteps."""
        emb = self.time_mlp(sinusoidal_embedding(t, self.config.channels, order=self.config.unet.time_order))
        h = self.conv_in(F.pixel_unshuffle(x, self.config.patch))
        for module in self.down:
            h = module(h) if isinstance(module, Downsample) else module(h, emb)
        for stage in self.mid:
            h = stage(h, emb)
        return self.pool(F.silu(self.norm_out(h)))


def log_prob_gradient(classifier: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """Returns the gradient of log p(y | x_t) in x_t for each image (Dhariwal & Nichol 2021, algorithms 1 and 2).

    It works in `torch.inference_mode` too. The shapes are (B, C, H, W) of x, (B,) of t, and (B,), int64, of the labels.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, t, labels = x.clone(), t.clone(), labels.clone()  # tensors of inference mode cannot be part of a graph
        log_probs = classifier(x.requires_grad_(), t).log_softmax(dim=1)
        (gradient,) = torch.autograd.grad(log_probs.gather(1, labels[:, None]).sum(), x)
    return gradient
