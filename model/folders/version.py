"""The version of a model: one SHA-256 over the files that decide what it draws, which a shell can make, too:

    cd checkpoints/faces64 && sha256sum config.json model.safetensors | sha256sum

The card, the sheet and the curves are not among these files. Nor is the code of a network of another package.
"""

import hashlib
from collections.abc import Mapping

VERSION = r"^[0-9a-f]{64}$"
DIGITS = 12  # of a version in the names of queues, which are enough to distinguish the versions of a model


def version_of(digests: Mapping[str, str]) -> str:
    """Returns the version of a model, in hexadecimal, from the SHA-256 of each deciding file by its path."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def model_of(name: str) -> str:
    """Returns the name of a model by that of its folder, NAME or for a further version NAME@TAG, or by a ref."""
    return name.partition("@")[0]


def ref_of(model: str, version: str) -> str:
    """Returns the short name of one version of a model: faces64@1a2b3c4d5e6f."""
    return f"{model}@{version[:DIGITS]}"
