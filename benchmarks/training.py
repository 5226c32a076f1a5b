"""Half an hour of training each on Fashion-MNIST: difuso's recipe, diffusers' script, denoising-diffusion-pytorch.

All have the same images, seconds and core, and about as many parameters. Then 5,000 images of each, by 50 steps of its
own DDIM, are compared with 5,000 images that none of them has seen. Finished parts are kept, so that a stopped run
continues. This is not part of `make bench`: it takes four hours.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from difuso.drawing.drawing import model_of
from difuso.drawing.sampled_images import SampledImages
from evaluation.features import EfficientNetLite0
from evaluation.figures import evaluate
from evaluation.image_sets import from_array, from_path
from evaluation.real_images import real_images
from evaluation.reference import read_reference
from jobs.params import SamplingParams
from model import load_checkpoint
from training.data.images import ImageArray
from training.recipe_reading import load_recipe
from training.run.dry_run import dry_run
from training.run.run import MODEL, train
from worker.stepping.runner import Runner

from . import machine
from .peer_trainers import CALLS, PEER_TRAINERS, Peer
from .quality import told
from .report import Bar, Report, say, show

RECIPE = load_recipe("fashion32", ["compile=true"])  # pays on a CPU, docs/training.md
OURS = "difuso"
PEERS = {kind.name: kind for kind in PEER_TRAINERS}
NAMES = (OURS, *PEERS)
SEED = 1_000_000
BATCH = 50
PROBE_STEPS = 30
SPARE = 0.96  # share of the time that is planned for steps: logs, sheets and a slower minute need the rest
FACTS, WEIGHTS, PICTURES = "facts.json", "weights.pt", "pictures.npz"


def main(
    minutes: Annotated[float, typer.Option(help="Minutes of training for each.")] = 30,
    images: Annotated[int, typer.Option(min=24, help="Images drawn by each, and of the reference.")] = 5000,
    out: Annotated[Path, typer.Option(help="JSON file; weights and images are kept next to it.")] = Path(
        "var/bench-training.json"
    ),
) -> None:
    """Trains, draws and measures on one core; about four hours."""
    machine.warn_if_busy()
    machine.use_cores(1)
    torch.set_num_threads(1)
    folder = out.with_suffix("")
    report = Report(out, {"minutes": minutes, "images": images, "recipe": RECIPE.name, "calls": CALLS})
    runs = {name: trained(name, folder / name, minutes) for name in NAMES}
    report.add("training", runs)
    for name in NAMES:
        drawn(name, folder / name, images)
    say("comparing the images")
    extractor = EfficientNetLite0()
    reference = read_reference(from_array("test images", real("test", images)), extractor)
    found = {"training images": told(evaluate(from_array("", real("train", images)), reference, extractor))}
    for name in NAMES:
        found[name] = told(evaluate(from_path(folder / name / PICTURES, images), reference, extractor))
        report.add("quality", found)
    show_figures(runs, found)
    for bar in bars(runs, found):
        report.bar(bar)
    report.close()


def trained(name: str, folder: Path, minutes: float) -> dict[str, Any]:
    """Trains, unless that is done; returns the facts of the run."""
    path = folder / FACTS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{name} trains")
        facts = _train_ours(folder, minutes) if name == OURS else _train_peer(PEERS[name], folder, minutes)
        facts["images_per_second"] = facts["images"] / facts["seconds"]
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _train_ours(folder: Path, minutes: float) -> dict[str, Any]:
    """Trains as `difuso train` does; the seconds include compiling, saving, logs and sheets."""
    probe = dry_run(RECIPE)
    steps = int(SPARE * 60 * minutes / probe.step_seconds)
    share = steps / RECIPE.max_steps
    recipe = dataclasses.replace(
        RECIPE, max_steps=steps, decay_steps=int(share * RECIPE.decay_steps), max_minutes=minutes
    )
    begin = time.perf_counter()
    reached = train(recipe, folder)
    seconds = time.perf_counter() - begin
    return {"parameters": probe.parameters, "images": reached * recipe.batch_size, "seconds": seconds, "steps": reached}


def _train_peer(kind: type[Peer], folder: Path, minutes: float) -> dict[str, Any]:
    """Trains in a loop that does nothing else; the seconds are those of the loop."""
    images = real("train")
    order = np.random.default_rng(0)

    def step(peer: Peer) -> None:
        rows = order.choice(len(images), kind.batch_size, replace=False)
        peer.step(torch.from_numpy(images[np.sort(rows)]).permute(0, 3, 1, 2))

    probe = kind(PROBE_STEPS, RECIPE.shape.height, RECIPE.channels)
    step(probe)
    begin = time.perf_counter()
    for _ in range(PROBE_STEPS):
        step(probe)
    each = (time.perf_counter() - begin) / PROBE_STEPS
    torch.manual_seed(0)
    planned = int(SPARE * 60 * minutes / each)
    peer = kind(planned, RECIPE.shape.height, RECIPE.channels)
    done, begin = 0, time.perf_counter()
    while done < planned and time.perf_counter() - begin < 60 * minutes:
        step(peer)
        done += 1
    seconds = time.perf_counter() - begin
    peer.save(folder / WEIGHTS)
    return {"parameters": peer.parameters, "images": done * kind.batch_size, "seconds": seconds, "steps": done}


def drawn(name: str, folder: Path, count: int) -> None:
    """Draws images into a file in the layout of guided-diffusion, unless they exist."""
    path = folder / PICTURES
    if path.exists() and from_path(path).count >= count:
        return
    say(f"{name} draws {count} images")
    if name == OURS:
        images = _draw_ours(folder, count)
    else:
        peer = PEERS[name](1, RECIPE.shape.height, RECIPE.channels)
        peer.load(folder / WEIGHTS)
        images = np.concatenate([peer.draw(BATCH, SEED + first) for first in range(0, count, BATCH)])
    np.savez(path, arr_0=np.broadcast_to(images, (*images.shape[:3], 3)))


def _draw_ours(folder: Path, count: int) -> ImageArray:
    """Draws by the step engine, all classes equally often, without guidance."""
    runner = Runner(load_checkpoint(folder / MODEL), device=torch.device("cpu"), slots=BATCH)
    spacing = RECIPE.defaults.spacing
    params = SamplingParams(n=1, steps=CALLS, sampler="ddim", spacing=spacing, eta=0.0, seed=SEED, label=0)
    return SampledImages(model_of(runner), params, folder / "drawn", labels=range(RECIPE.num_classes or 0))(0, count)


def real(split: str, count: int | None = None) -> ImageArray:
    """Returns images of the set in random order, uint8 of shape (N, H, W, C)."""
    return real_images(RECIPE.name, count, shape=RECIPE.shape, split=split)


def show_figures(runs: dict[str, dict[str, Any]], found: dict[str, dict[str, float]]) -> None:
    """Prints what each run took, and the quality of its images."""
    keys = [key for key in found[OURS] if not key.startswith(("sFD", "IS")) and not key.endswith("error")]
    facts = ("parameters", "images", "images_per_second")
    rows = [
        (name, *(runs.get(name, {}).get(key, "") for key in facts), *(row[key] for key in keys))
        for name, row in found.items()
    ]
    show("training", ("", *facts, *(key.split("-")[0] for key in keys)), rows)


def bars(runs: dict[str, dict[str, Any]], found: dict[str, dict[str, float]]) -> list[Bar]:
    """Returns the bars: best in quality, and no slower than the fastest."""
    speed = {name: run["images_per_second"] for name, run in runs.items()}
    fastest = max(speed[name] for name in PEERS)
    made = [Bar("images/s", speed[OURS], fastest, "images/s", "at least")]
    for key in found[OURS]:
        values = [found[name][key] for name in PEERS]
        if key.startswith("FD"):
            made.append(Bar(key, found[OURS][key], min(values), "", "at most"))
        if key.startswith(("Precision", "Recall")):
            made.append(Bar(key, found[OURS][key], max(values), "", "at least"))
    return made


if __name__ == "__main__":
    typer.run(main)
