"""Model folders that were made to do harm, and the reasons for which they are refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from difuso.model.folders.files import CONFIG, SUMS, WEIGHTS, file_sha256
from difuso.worker.engine.models import ModelFollower
from difuso.worker.settings import WorkerSettings

DEEP = "[" * 100_000 + "]" * 100_000
ODD_HEADER = '{"conv_in.bias": {"dtype": "F16", "shape": [99999999999, 99999999999], "data_offsets": [0, 2]}}'
MANY_LENGTHS = '{"a": {"shape": [' + ",".join(["9999"] * 400_000) + "]}}"  # whose product would take minutes
LONG = 1 << 40  # bytes of a file that takes no place on the disk


class Attack(NamedTuple):
    """A damage to a folder, and the text in the reason of its refusal; for the front end it may be empty."""

    damage: Callable[[Path], object]
    reason: str
    front_end: str | None = None  # the same


def _config(**changes: Any) -> Callable[[Path], None]:
    """Returns a damage that changes values in config.json; a mapping changes only the fields of that section."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / CONFIG).read_text())
        for name, value in changes.items():
            content[name] = {**content[name], **value} if isinstance(value, Mapping) else value
        (folder / CONFIG).write_text(json.dumps(content))

    return damage


def _text(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / CONFIG).write_text(text)


def _sparse(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(LONG)

    return damage


def _header(length: int, text: str = "") -> Callable[[Path], object]:
    return lambda folder: (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + text.encode())


def _pipe(folder: Path) -> None:
    (folder / CONFIG).unlink()
    os.mkfifo(folder / CONFIG)


def _odd_name(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.pt")).touch()


def _diffusers(network: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        unet = {"_class_name": "UNet2DModel", "sample_size": 16, "block_out_channels": [32, 32]}
        unet |= {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
        for name in (CONFIG, SUMS):
            (folder / name).unlink()
        (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.safetensors")
        (folder / CONFIG).write_text(json.dumps({**unet, **network}))
        (folder / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDPMScheduler", **scheduler}))

    return damage


ATTACKS: dict[str, Attack] = {
    "deep": Attack(_text(DEEP), "config.json is not JSON: recursion limit exceeded"),
    "deep-training": Attack(_text('{"format": 1, "training": ' + DEEP + "}"), "recursion limit exceeded"),
    "half-a-character": Attack(_config(classes=["\ud800"], network={"num_classes": 1}), "config.json is not JSON"),
    "image-size": Attack(_config(image_size=2**20), "image_size: Input should be less than or equal to 1024"),
    "timesteps": Attack(
        _config(schedule={"num_train_timesteps": 10**9}), "schedule.num_train_timesteps: Input should be"
    ),
    "res-blocks": Attack(
        _config(network={"num_res_blocks": 10**7}), "network.num_res_blocks: Input should be less than or equal to 8"
    ),
    "levels": Attack(
        _config(network={"channel_mult": [1] * 10**5}),
        "network.channel_mult must have at most 65536 entries, not 100000",
    ),
    "null-class": Attack(
        _config(network={"null_class": 10**9}), "network.null_class: Input should be a valid boolean, got 1000000000"
    ),
    "digits": Attack(_config(image_size=10**4000), "image_size: Input should be less than or equal to 1024"),
    "no-number": Attack(_config(schedule={"beta_start": float("nan")}), "schedule.beta_start: Input should be"),
    "steps": Attack(_config(defaults={"steps": 10**9}), "defaults.steps: Input should be less than or equal to 10000"),
    "long-word": Attack(
        _config(prediction="x" * 10**5), "got 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."
    ),
    "classes": Attack(_config(classes=["x"] * 10**5), "classes must have at most 65536 entries, not 100000"),
    "one-timestep": Attack(_config(schedule={"num_train_timesteps": 1, "zero_terminal_snr": True}), "betas"),
    "long-config": Attack(_sparse(CONFIG), "config.json must have at most 1048576 bytes"),
    "long-sums": Attack(_sparse(SUMS), "SHA256SUMS must have at most 1048576 bytes"),
    "pipe": Attack(_pipe, "config.json is missing"),
    # Of weights that do not fit their config only the workers find out.
    "network": Attack(_config(network={"channels": 2048, "channel_mult": [32, 64]}), "the config asks for", ""),
    "network-of-many-parts": Attack(
        _config(network={"channels": 2048, "channel_mult": [1] * 8, "num_res_blocks": 8}, image_size=128), "lacks", ""
    ),
    "long-weights": Attack(_sparse(WEIGHTS), "it is longer than its header says"),
    "long-header": Attack(_header(10**8), "or its header is too long"),
    "deep-header": Attack(_header(len(DEEP), DEEP), "is not a safetensors file"),
    "odd-header": Attack(_header(len(ODD_HEADER), ODD_HEADER), "is not a safetensors file"),
    "header-of-many-lengths": Attack(_header(len(MANY_LENGTHS), MANY_LENGTHS), "is not a safetensors file"),
    "odd-name": Attack(_odd_name, "model.safetensors is missing; \N{REPLACEMENT CHARACTER}.pt is a pickle"),
    "diffusers-deep": Attack(lambda folder: (folder / "model_index.json").write_text(DEEP), "recursion limit exceeded"),
    "diffusers-classes": Attack(_diffusers({"num_class_embeds": 10**9}, {}), "num_class_embeds: Input should be"),
    "diffusers-blocks": Attack(_diffusers({"layers_per_block": 10**7}, {}), "layers_per_block: Input should be"),
    "diffusers-size": Attack(_diffusers({"sample_size": 2**20}, {}), "sample_size: Input should be"),
    "diffusers-timesteps": Attack(
        _diffusers({}, {"num_train_timesteps": 10**9}),
        "scheduler_config.json cannot be used: num_train_timesteps: Input should be",
    ),
}


def plant(tiny: Path, models: Path, name: str) -> None:
    """Puts a copy of a sound folder into the models folder, under the name of the attack that damages it.

    Its sums fit the damage, except for files that take an hour to read.
    """
    folder = models / name
    shutil.copytree(tiny, folder)
    ATTACKS[name].damage(folder)
    if (folder / SUMS).is_file() and (folder / SUMS).stat().st_size < LONG:
        files = [path for path in folder.glob("*.*") if path.is_file() and path.suffix != ".pt"]
        sums = {path.name: "0" * 64 if path.stat().st_size == LONG else file_sha256(path) for path in files}
        (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def refuse_all(models: Path, folder: Path) -> None:
    """Meets each of these folders as a worker does while it runs, and then all of them as at its start.

    Prints, by attack, the reason of the refusal, and the seconds and bytes that it took.
    """
    shutil.copytree(models / "tiny", folder / "tiny")
    settings = WorkerSettings(models_dir=folder, slots=1, device="cpu")
    worker = ModelFollower(settings)
    worker.load_first()
    worker.load_all()
    refused: dict[str, tuple[str, float, int]] = {}
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_memory() + (1 << 30),) * 2)  # what asks for more gets none
    for name in ATTACKS:
        (folder / name).symlink_to(models / name)
        before, started = _peak(), time.monotonic()
        worker.load_all()
        worker.load_all()
        refused[name] = worker.models.refused[name].reason, time.monotonic() - started, _peak() - before
        assert {ref.partition("@")[0] for ref in worker.models.runners} == {"tiny"}
    again = ModelFollower(settings)
    again.load_first()
    again.load_all()
    assert (set(again.models.runners), again.models.refused) == (set(worker.models.runners), worker.models.refused)
    print(json.dumps(refused))  # noqa: T201


def _peak() -> int:
    """Returns the largest memory in bytes that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _virtual_memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    refuse_all(Path(sys.argv[1]), Path(sys.argv[2]))
