"""The extras of difuso: the command that installs one, and the extra that has a missing package."""

import json
import re
from collections.abc import Iterator
from importlib.metadata import distribution, metadata, requires
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

# Several extras have the same packages, so a command names its own; all others draw, which the extra `worker` is for.
OF_COMMANDS = {
    "api": "api",
    "evaluate": "evaluate",
    "key": "api",
    "pull": "hub",
    "serve": "standalone",
    "train": "train",
}


def installing(extra: str) -> str:
    """Returns the command that installs an extra: difuso is not on PyPI, so pip needs its origin (PEP 610)."""
    origin = json.loads(distribution("difuso").read_text("direct_url.json") or "{}")
    url = origin.get("url", "")
    if origin.get("dir_info", {}).get("editable"):
        return f"pip install -e '{Path(url2pathname(urlsplit(url).path))}[{extra}]'"
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    return f"pip install 'difuso[{extra}]{' @ ' if url else ''}{url}'"


def extra_with(module: str, command: str | None = None) -> str | None:
    """Returns the extra that brings a module, by its full name, preferably the command's own; None if none does."""
    name = module.partition(".")[0].replace("_", "-")
    extras: list[str] = metadata("difuso").get_all("Provides-Extra") or []
    for extra in (OF_COMMANDS.get(command or "", "worker"), *extras):
        if any(f"{package}-".startswith(f"{name}-") for package in _packages(extra)):  # dicebear is a part of several
            return extra
    return None


def _packages(extra: str) -> Iterator[str]:
    """Yields the packages of an extra, and those of the extras that it contains."""
    for requirement in requires("difuso") or ():
        needed, _, condition = requirement.partition("; extra == ")
        if condition != f'"{extra}"':
            continue
        if contained := re.fullmatch(r"difuso\[(.+)\]", needed):
            for other in contained[1].split(","):
                yield from _packages(other)
        else:
            yield from re.findall(r"^[\w.-]+", needed)
