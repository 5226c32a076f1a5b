"""The index from which pip gets torch for this machine: PyTorch's builds for CPUs, or PyPI.

On Linux PyPI's build contains CUDA, several GB that are useless without an NVIDIA GPU. `make` asks before anything is
installed, so this needs only Python: `python -m difuso.torch_index` prints the index, or nothing for PyPI.
"""

import os
import shutil
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE_SECONDS = 5.0


def choose() -> str:
    """Returns the index for torch, or an empty string for PyPI. TORCH_INDEX decides if it is set, even to nothing."""
    if (wanted := os.environ.get("TORCH_INDEX")) is not None:
        return wanted
    return CPU_INDEX if sys.platform == "linux" and not has_nvidia() and answers(CPU_INDEX) else ""


def has_nvidia() -> bool:
    """Whether there is a driver for NVIDIA's GPUs."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def answers(index: str, seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether an index answers within `seconds` that it has torch."""
    found = threading.Event()

    def ask() -> None:
        with suppress(OSError, ValueError), urlopen(f"{index}/torch/", timeout=seconds):
            found.set()  # a status that is not a success has raised

    asking = threading.Thread(target=ask, daemon=True)  # urlopen's timeout excludes name resolution
    asking.start()
    asking.join(seconds)
    return found.is_set()


if __name__ == "__main__":
    sys.stdout.write(choose())
