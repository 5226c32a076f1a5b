"""The fixtures of JiT: small networks, and the runs that they make."""

from typing import Any

SIZE = 16  # height and width
SEEDS = (7, 8)
CLEAN = (0.0, 0.3, 1.0)  # their times at which single calls are compared; 1 is the image
LABELS = (0, 2, 3)  # the last is "no class"
CLASSES = 3
STEPS = 10  # of Euler's method; with more, theirs divides by 0.05 where less is left to go
SCALE, GUIDED_FROM = 2.0, 0.15  # of guidance, and their time from which it acts
# The noise's scale, and the arguments of the network.
JIT: dict[str, tuple[float, dict[str, Any]]] = {
    "jit": (
        1.0,
        {"patch_size": 4, "hidden_size": 48, "depth": 6, "num_heads": 4, "bottleneck_dim": 12}
        | {"in_context_len": 3, "in_context_start": 2},
    ),
    "jit_noisier": (
        2.0,
        {"patch_size": 8, "hidden_size": 32, "depth": 2, "num_heads": 2, "bottleneck_dim": 16}
        | {"in_context_len": 0, "in_context_start": 0},
    ),
}
