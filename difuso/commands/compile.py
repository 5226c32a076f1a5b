"""`difuso compile`: compiles a model's network for this machine, for the workers that start later."""

import os

import torch
from rich.console import Console

from model.checkpoint import load_checkpoint
from worker.device.compiled import NoGain, compile_network
from worker.settings import WorkerSettings
from worker.stepping.runner import CPU_SLOTS, pick_device

from ..build_cache import keep_builds_private
from ..errors import UserError, user_errors
from ..models_folder import find_model
from ..supervisor.machine import this_machine
from ..supervisor.shares import share_out, threads_of


@user_errors()
def compile_for_this_machine(name: str, settings: WorkerSettings, workers: int | None) -> None:
    """Compiles every batch size that a worker with these settings uses, and prints each file, or that it does not pay.

    So many workers will share the machine; None stands for as many as `difuso serve` starts.

    Raises UserError if there is no such model, the device is a GPU, there are too few cores, the compiler fails, or
    others could change what it builds.
    """
    info = find_model(name, settings.models_dir)
    if pick_device(settings.device).type != "cpu":
        raise UserError("only networks on a CPU are compiled: set DIFUSO_DEVICE=cpu")
    keep_builds_private()
    loaded = load_checkpoint(settings.models_dir / info.name, networks=settings.networks)
    checkpoint = loaded.in_precision(settings.precision)
    console = Console(soft_wrap=True)
    shares = share_out(this_machine(settings.device, os.environ), workers, threads_of(os.environ))
    torch.set_num_threads(threads_of(shares[0].environment) or torch.get_num_threads())
    console.print(f"for workers whose calls use {torch.get_num_threads()} of the cores")
    try:
        for path in compile_network(checkpoint, settings.compiled_dir, settings.slots or CPU_SLOTS):
            console.print(path)
    except NoGain as no_gain:
        console.print(f"{info.name} stays as it is, for compiled code would hardly be faster here: {no_gain}")
    except (OSError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{info.name} cannot be compiled, which needs a C++ compiler: {reason}") from error
