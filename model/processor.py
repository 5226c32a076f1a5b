"""The name of the processor, which every figure of speed depends on."""

import platform
from pathlib import Path


def processor_name() -> str:
    """Returns the name of the processor, as its maker gives it where Linux knows it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
