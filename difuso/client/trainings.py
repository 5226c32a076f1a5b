"""The flows of trainings: an archive of pictures is sent, and a model is trained on it."""

import json
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from .errors import DifusoError
from .flows import Call, Flow, Patience, Pause, ask, exchange
from .results import Facts

OVER = ("succeeded", "stopped", "failed")  # states of a training
CHECK_SECONDS = 1800.0  # that a server may take to look at all pictures
LOOK_SECONDS = 1.0
JSON = {"Content-Type": "application/json"}


def train(pictures: Path, name: str, options: Mapping[str, Any]) -> Flow[Facts]:
    """Makes a dataset and a training of this name. If there is no training in the end, there is no dataset either."""
    order = {"dataset": name, "name": name, **{key: value for key, value in options.items() if value is not None}}
    table, dry, patience = order.pop("table", None), bool(order.get("dry_run")), Patience(None)
    with ExitStack() as stack:
        files: dict[str, Any] = {"name": (None, name.encode())}
        for part, path in {"images": pictures, "table": table}.items():
            if path is not None:
                files[part] = (Path(path).name, stack.enter_context(Path(path).open("rb")))
        sending = Call("POST", "/datasets", files=files, seconds=CHECK_SECONDS)
        yield from ask(sending, patience, "name", repeats=False)
    try:
        ordering = Call("POST", "/trainings", headers=JSON, body=json.dumps(order).encode())
        facts = yield from ask(ordering, patience, "id", "state", repeats=False)
        while dry and facts["state"] not in OVER:
            yield Pause(LOOK_SECONDS)
            facts = yield from training(facts["id"], None, patience)
        if dry:
            yield from training(facts["id"], "delete", patience)
    except DifusoError:
        dry = True
        raise
    finally:
        if dry:
            with suppress(DifusoError):
                yield from exchange(Call("DELETE", f"/datasets/{name}"), patience)
    return facts


def training(id: str, wanted: str | None, patience: Patience) -> Flow[Facts]:
    """Returns a training, of which something is asked before; nothing of one that is deleted."""
    path = f"/trainings/{id}"
    if wanted == "delete":
        yield from exchange(Call("DELETE", path), patience)
        return {}
    if wanted is not None:
        return (yield from ask(Call("POST", f"{path}/{wanted}"), patience, "state", repeats=False))
    return (yield from ask(Call("GET", path), patience, "state"))
