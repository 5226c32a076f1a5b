"""`difuso tune`: finds a plan of few network calls for a model, and writes it into the model's folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from evaluation.tuning import OwnFeatures, Tuned, distance_from, tune
from jobs.kinds.base import SamplingQuery, fill_in
from model.bounds import PLAN_NAME
from model.config import SamplerDefaults, config_from_json, config_to_json
from model.files import CONFIG, SUMS, read_json, read_sums
from model.plans.samplers import SAMPLERS
from model.plans.spacing import RULES, visit_levels
from training.images import ImageArray

from .errors import UserError, user_errors
from .image_sources import ImageSources
from .progress import progress
from .sampled_images import SampledImages

REAL = 1000  # images that drawn ones are compared with


@user_errors()
def tune_model(
    sources: ImageSources, *, calls: int, sampler: str, reference: str, images: int, rounds: int, name: str
) -> None:
    """Prints what was found; writes it into config.json as the plan `name` if it is better than every known spacing.

    The arguments are those of the command.

    Raises:
        UserError: if the model or the reference does not exist, or the sampler cannot be tuned.
    """
    info = sources.info
    folder = sources.settings.models_dir / info.name
    if not re.fullmatch(PLAN_NAME, name):
        raise UserError(f"--name must be up to 64 small letters, digits and . _ -, not {name!r}")
    if not (folder / CONFIG).is_file():
        raise UserError(f"{info.name} is in another format: make it ours with `difuso convert` first")
    if sampler not in SAMPLERS:
        raise UserError(f"sampler: {sampler!r} is not known: choose one of {', '.join(SAMPLERS)}")
    if SAMPLERS[sampler].levels(calls) != calls:
        raise UserError(f"{sampler} makes two calls at a level and cannot be tuned: choose ddim, dpmpp or unipc")
    schedule = info.schedule
    beginnings = [visit_levels(schedule, rule, calls).timesteps for rule in RULES]
    distance = distance_from(
        sources.real(reference, REAL, split="train").load(), OwnFeatures(sources.runner.checkpoint)
    )

    def draw(timesteps: Sequence[float], eta: float) -> ImageArray:
        with TemporaryDirectory() as temporary:
            return _draw(sources, sampler, _listed(timesteps), eta, Path(temporary), images)

    with progress(f"{rounds} runs of {images} images") as tell:
        before, after = tune(
            draw,
            distance,
            beginnings,
            last=schedule.num_train_timesteps - 1,
            noisy="eta" in SAMPLERS[sampler].options,
            rounds=rounds,
            tell=tell,
        )
    _say(before, after)
    if after.distance < before.distance:
        _write(folder, name, SamplerDefaults(sampler, calls, _listed(after.timesteps), after.eta))
        Console(soft_wrap=True).print(f"{folder / CONFIG} has it as the plan {name}")


def _draw(sources: ImageSources, sampler: str, spacing: str, eta: float, folder: Path, count: int) -> ImageArray:
    info = sources.info
    labels = range(len(info.config.classes or ()))
    label = "0" if labels else None  # any will do here; each image gets its own
    query = SamplingQuery(sampler=sampler, spacing=spacing, eta=eta, seed=sources.seed, label=label)
    return SampledImages(sources.runner, fill_in(query, info), folder, labels=labels)(0, count)


def _listed(timesteps: Sequence[float]) -> str:
    return "at:" + ",".join(f"{timestep:g}" for timestep in timesteps)


def _say(before: Tuned, after: Tuned) -> None:
    for what, found in (("best known spacing", before), ("tuned", after)):
        times = ", ".join(f"{timestep:g}" for timestep in found.timesteps)
        Console(soft_wrap=True).print(f"{what}: {found.distance:.4g} at {times} with eta {found.eta:.2f}")


def _write(folder: Path, name: str, plan: SamplerDefaults) -> None:
    """Adds a plan to a checkpoint's config, and its new hash to SHA256SUMS."""
    config = config_from_json(content := read_json(folder, CONFIG))
    changed = dataclasses.replace(config, plans={**config.plans, name: plan})
    text = json.dumps({**content, **config_to_json(changed)}, indent=2) + "\n"
    config_from_json(json.loads(text))  # raises rather than write what no worker would load
    sums = read_sums(folder) | {CONFIG: hashlib.sha256(text.encode()).hexdigest()}
    for file, written in ((CONFIG, text), (SUMS, "".join(f"{sums[each]}  {each}\n" for each in sums))):
        unfinished = folder / f".{file}.tmp"
        unfinished.write_text(written, encoding="utf-8")
        unfinished.replace(folder / file)
