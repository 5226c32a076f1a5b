"""Networks compiled for this machine ahead of time: `difuso compile` writes them, workers load them in a moment.

A file holds the code of one batch size and no weights, so a retrained model can use the same files. The name of its
folder contains all that the code depends on. It is machine code: whoever can write here can run code as the worker, so
a folder that others can write to is ignored.
"""

import hashlib
import json
import logging
import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.folders.config import ModelConfig, Precision
from model.networks.configs import network_to_json

from .calls import Network, by_position, example_batch
from .precision import precision_on, prepare

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
SIZES = (2, 4, 6, 8, 12)  # besides the largest; a batch of another size is padded
LEAST_GAIN = 1.1  # times the images per second of full batches; a lone image is padded and may not borrow a core
LONGEST_CALL = 0.25  # seconds: compiled code keeps all other threads of Python waiting
# Shares of the largest output; compiled and eager networks round differently by about 1e-6, and 1e-2 in bfloat16.
TOLERANCES: Mapping[Precision, float] = {"float32": 1e-3, "bfloat16": 0.1}


class NoGain(Exception):
    """The network itself is about as fast as its compiled code."""


def folder_of(config: ModelConfig, root: Path) -> Path:
    """Returns the folder of a network's files: one for each network, torch, kind of processor and team."""
    facts = {
        "difuso": version("difuso"),
        "network": network_to_json(config.network),
        **_denoiser(config),
        "told": config.told,
        "shape": config.shape,
        "torch": torch.__version__,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }
    return root / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _denoiser(config: ModelConfig) -> dict[str, Any]:
    """Returns what else the code depends on, of a network in another format or not called with x_t and t themselves."""
    precision = precision_on(CPU, config)
    facts: dict[str, Any] = {} if precision == "float32" else {"precision": precision}
    if config.schedule.type == "flow":
        facts["schedule"] = vars(config.schedule)
    elif config.preconditioning is not None:
        facts |= {"preconditioning": vars(config.preconditioning), "timesteps": config.schedule.num_train_timesteps}
    return facts


def compile_network(checkpoint: Checkpoint, root: Path, slots: int) -> Iterator[Path]:
    """Compiles a network, and a weaker one that guides it, on the CPU; yields a file for each batch size.

    The sizes are those that a worker with these slots uses. It takes about 20 s a size and needs a C++ compiler. The
    largest size is compiled first, to see whether it is worth it, and kept last: without it nothing is used.

    Raises:
        NoGain: if the network gains less than LEAST_GAIN; nothing is kept then, not even earlier files.
        RuntimeError: if the network cannot be compiled, as without a compiler, or is too slow to be used.
        OSError: if the folder cannot be written, or others can write it.
    """
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    yield from _compile_version(checkpoint, root, slots, LEAST_GAIN)
    if checkpoint.weaker_version is not None:
        yield from _compile_version(checkpoint.weaker_version, root, slots, least_gain=0.0)


def _compile_version(checkpoint: Checkpoint, root: Path, slots: int, least_gain: float) -> Iterator[Path]:
    folder = folder_of(checkpoint.config, root)
    folder.mkdir(mode=0o755, exist_ok=True)
    for each in (root, folder):
        _check_owner(each)
    network = _prepared(checkpoint)
    with TemporaryDirectory(prefix=".", dir=folder) as unfinished:
        largest = _compile(checkpoint, slots, Path(unfinished))
        seconds = _seconds(checkpoint, slots, _load(largest, _weights(network)))
        if seconds > LONGEST_CALL:
            raise RuntimeError(
                f"a call of {slots} images takes {seconds:.2f} s, in which a worker could do nothing else; set a "
                "smaller DIFUSO_SLOTS"
            )
        eager = replace(checkpoint, network=deepcopy(checkpoint.network))  # packed, unlike that to compile
        before = _seconds(checkpoint, slots, by_position(eager, CPU, {}))
        if before < least_gain * seconds:
            for earlier in folder.glob("*.pt2"):
                earlier.unlink()
            raise NoGain(f"{slots} images take {1000 * seconds:.0f} ms, and {1000 * before:.0f} ms without it")
        for size in (size for size in SIZES if size < slots):
            file = _compile(checkpoint, size, Path(unfinished))
            yield file.replace(folder / file.name)
        yield largest.replace(folder / largest.name)


def _compile(checkpoint: Checkpoint, size: int, folder: Path) -> Path:
    file = folder / f"{size}.pt2"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of itself
        torch._inductor.aoti_compile_and_package(
            torch.export.export(checkpoint.denoiser, *_example(checkpoint, size)),
            package_path=str(file),
            inductor_configs={"aot_inductor.package_constants_in_so": False},
        )
    file.chmod(0o644)
    return file


def load_compiled(checkpoint: Checkpoint, root: Path, slots: int) -> tuple[dict[int, Network], dict[int, Network]]:
    """Loads the compiled networks of a checkpoint by batch size, up to the first that holds so many slots.

    There are none if nothing was compiled for it here, or if the files do not fit. The network moves to the memory
    format in which it was compiled. The weaker ones that guide it come second; without them none are used.
    """
    own, weaker = _load_version(checkpoint, root, slots), checkpoint.weaker_version
    if weaker is None or not own:
        return own, {}
    guides = _load_version(weaker, root, slots)
    if not guides:
        log.warning("the weaker network of %s is not compiled: run difuso compile again", checkpoint.name)
        return {}, {}
    return own, guides


def _load_version(checkpoint: Checkpoint, root: Path, slots: int) -> dict[int, Network]:
    folder = folder_of(checkpoint.config, root)
    files = {int(file.stem): file for file in folder.glob("*.pt2") if file.stem.isdecimal()}
    if not files:
        return {}
    weights = _weights(_prepared(checkpoint))
    try:
        for each in (root, folder, *files.values()):
            _check_owner(each)
        largest = min((size for size in files if size >= slots), default=None)
        if largest is None:
            raise ValueError(f"batches of {slots} are missing; compiled are those up to {max(files)}")
        compiled = {size: _load(file, weights) for size, file in files.items() if size <= largest}
        for size, candidate in compiled.items():
            _compare(checkpoint, size, candidate)
    except Exception as error:  # whatever is wrong with them, the network itself works
        log.warning("the compiled networks of %s are not used: %s", checkpoint.name, error)
        return {}
    return compiled


def _prepared(checkpoint: Checkpoint) -> nn.Module:
    """Returns the network as it is compiled and compared."""
    return prepare(checkpoint.denoiser, CPU, precision_on(CPU, checkpoint.config))


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: each.detach() for name, each in [*network.named_parameters(), *network.named_buffers()]}


def _check_owner(path: Path) -> None:
    about = path.stat()
    if about.st_uid not in (0, os.getuid()) or about.st_mode & 0o022:
        raise PermissionError(f"others can write {path}")


def _load(file: Path, weights: Mapping[str, Tensor]) -> Network:
    network = torch._inductor.aoti_load_package(str(file))
    # Copied: weights that are shared stay in memory when a newer version of the model replaces this one.
    network.load_constants({name: weights[name] for name in network.get_constant_fqns()}, check_full_update=True)
    run = network.loader.boxed_run  # the object itself parses descriptions of its arguments, 2 ms at each call
    return lambda *arguments: run(list(arguments))[0]


@torch.inference_mode()
def _compare(checkpoint: Checkpoint, size: int, compiled: Network) -> None:
    """Compares a compiled network with the one that it was made from; raises ValueError if its output differs."""
    example, told = _example(checkpoint, size)
    expected, found = checkpoint.denoiser(*example, **told), compiled(*example, *told.values())
    tolerance = TOLERANCES[precision_on(CPU, checkpoint.config)]
    if not (found - expected).abs().max() <= tolerance * expected.abs().max():
        raise ValueError(f"batches of {size} give other images than the network")


@torch.inference_mode()
def _seconds(checkpoint: Checkpoint, size: int, compiled: Network) -> float:
    """Returns how long a call takes, the shortest of five."""
    (example, told), found = _example(checkpoint, size), []
    for _ in range(5):
        started = time.perf_counter()
        compiled(*example, *told.values())
        found.append(time.perf_counter() - started)
    return min(found)


def _example(checkpoint: Checkpoint, size: int) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    """Returns the arguments of a batch: x_t and timesteps, and the network's other arguments by name."""
    x, timesteps, told = example_batch(checkpoint.config, size)
    return (x.contiguous(memory_format=torch.channels_last), timesteps), told


def _processor() -> Any:
    """Returns the kind of processor, and what Linux says that it can do."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return [platform.machine(), torch.backends.cpu.get_cpu_capability(), flags]
