"""The large files of a checkpoint folder, checked when they are read."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from .config import ModelConfig
from .files import file_sha256, read_bytes, read_sums, require_file


@dataclass(frozen=True)
class FolderContents:
    """The content of a folder, before a network is built for it."""

    config: ModelConfig  # the model's config
    # the tensors of the network, and of the classifier and the weaker network if there are any, by the names of their
    # files; in each by the names of our network, in any floating-point type
    weights: dict[str, dict[str, Tensor]]
    digests: dict[str, str]  # the hexadecimal SHA-256 of each file that decides what is drawn, by its path


def checked_sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns the digests of SHA256SUMS; raises CheckpointError if it or a file is missing, or a digest differs."""
    sums = read_sums(folder)
    for name in names:
        require_file(folder, name)
        if name.endswith(".json"):  # read with a limit, because it may be hostile
            digest = hashlib.sha256(read_bytes(folder, name)).hexdigest()
        else:
            digest = file_sha256(folder / name)
        if digest != sums.get(name):
            raise CheckpointError(f"{name} does not match its SHA-256 sum: it was damaged or edited")
    return sums


def read_safetensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Reads the tensors in a file, by name; raises CheckpointError if it is not a safetensors file."""
    try:
        return load_file(folder / name)
    except SafetensorError as error:
        raise CheckpointError(f"{name} is not a safetensors file: {error}") from error
