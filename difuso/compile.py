"""`difuso compile`: compiles a model's network for this machine, for the workers that start later."""

from __future__ import annotations

import torch
from rich.console import Console

from model.checkpoint import load_checkpoint
from worker.compiled import compile_network
from worker.runner import CPU_SLOTS, pick_device
from worker.settings import WorkerSettings

from .errors import UserError, user_errors
from .image_sources import find_model


@user_errors()
def compile_for_this_machine(name: str, settings: WorkerSettings) -> None:
    """Compiles every batch size that a worker with these settings uses, and prints each file.

    Raises:
        UserError: if there is no such model, the device is a GPU, or the compiler fails.
    """
    info = find_model(name, settings.models_dir)
    if pick_device(settings.device).type != "cpu":
        raise UserError("only networks on a CPU are compiled: set DIFUSO_DEVICE=cpu")
    checkpoint = load_checkpoint(settings.models_dir / info.name)
    console = Console(soft_wrap=True)
    console.print(f"for {torch.get_num_threads()} threads, as a worker with the same OMP_NUM_THREADS has")
    try:
        for path in compile_network(checkpoint, settings.compiled_dir, settings.slots or CPU_SLOTS):
            console.print(path)
    except (OSError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{info.name} cannot be compiled, which needs a C++ compiler: {reason}") from error
