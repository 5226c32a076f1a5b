"""Self-attention (Vaswani et al. 2017, section 3.2.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 64  # positions up to which PyTorch's gradient in bfloat16 on a CPU takes three to nine times as long as this one


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Returns softmax(q kᵀ / √C) v for queries, keys and values of shape (B, heads, positions, C)."""
    is_training = torch.is_autocast_enabled("cpu") and q.requires_grad  # autocast is the trainer's, never the worker's
    if not is_training or q.shape[-2] > FEW:
        return F.scaled_dot_product_attention(q, k, v)
    products = (q @ k.mT).float() * q.shape[-1] ** -0.5
    return torch.softmax(products, -1).to(v.dtype) @ v
