"""Writes a network of NVlabs/edm or NVlabs/edm2 as tensors and facts, which `difuso convert` reads.

Their .pkl files run code when they are read, so difuso itself never opens one. Run this where you would run their code,
on files that you trust: it needs torch, and their repository on the PYTHONPATH. It needs nothing else of difuso, so the
file can be copied there.

    PYTHONPATH=…/edm python -m difuso.export_edm network-snapshot.pkl cifar10       # writes cifar10.pt and cifar10.json
    difuso convert cifar10.pt
"""

import argparse
import inspect
import json
import math
import pickle
from pathlib import Path
from typing import Any

import torch


def export(source: Path, out: Path) -> tuple[Path, Path]:
    """Reads the averaged network of a snapshot, and writes its tensors (.pt) and facts (.json); returns both paths.

    Args:
        source: the .pkl file. Reading it runs code that it holds.
        out: the common path of the two new files, without a suffix.

    Raises ValueError if the file does not hold a network of EDM or EDM2.
    """
    with source.open("rb") as file:
        content = pickle.load(file)
    network = content["ema"] if isinstance(content, dict) and "ema" in content else content
    inner = getattr(network, "model", getattr(network, "unet", None))
    if inner is None or not hasattr(network, "init_kwargs"):
        raise ValueError(f"{source.name} does not hold a network of EDM or EDM2, but a {type(network).__name__}")
    facts = {"precond": type(network).__name__, "model": type(inner).__name__}
    if isinstance(content, dict) and content.get("encoder") is not None:
        facts["encoder"] = type(content["encoder"]).__name__
    facts = {**arguments_of(network), **arguments_of(inner), **facts}
    facts.pop("model_type", None)
    tensors, described = out.with_name(out.name + ".pt"), out.with_name(out.name + ".json")
    torch.save({name: tensor.cpu() for name, tensor in network.state_dict().items()}, tensors)
    described.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return tensors, described


def arguments_of(module: Any) -> dict[str, Any]:
    """Returns the arguments that a persistent class was made with, and the defaults of those that were left out."""
    decorated: Any = type(module).__base__  # the class that theirs was made from
    signature = inspect.signature(decorated)
    bound = signature.bind(*module.init_args, **module.init_kwargs)
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        more = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        arguments |= value if more else {name: value}
    return {name: plain(value) for name, value in arguments.items()}


def plain(value: Any) -> Any:
    """Returns an argument as JSON; infinity, which JSON lacks, becomes null."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the .pkl file of EDM or EDM2, which you trust")
    parser.add_argument("out", type=Path, help="the common path of the two new files, without a suffix")
    given = parser.parse_args()
    for path in export(given.source, given.out):
        print(path)  # noqa: T201


if __name__ == "__main__":
    main()
