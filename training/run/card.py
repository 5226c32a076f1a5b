"""The card of a model that a run makes: the README.md of its folder, which the page of a server shows."""

import torch

from difuso.model.conditions import listed
from difuso.model.processor import processor_name

from .trainer import Trainer

MAX_CLASSES = 40  # that are named
CARD = """\
# {name}

Images of {size} pixels{kinds}, from a network with {parameters:,} parameters.

    curl -X POST 'http://127.0.0.1:8000/generate?model={name}&n=8' -o images.png

![Samples, drawn from the seeds 0 … 63](sheet.png)

| | |
| --- | --- |
{rows}

`config.json` holds the whole recipe, `metrics.jsonl` the log.

![Loss over the run](losses.png)
"""
COPIES = "{:.0f} % of the samples are nearer to a training image than 95 % of images held out are; by chance it is 5 %"


def card(trainer: Trainer, seconds: float, copies: float | None = None) -> str:
    """Returns the card of a model, in Markdown, after so many seconds of training, with its share of `copies`."""
    recipe, data = trainer.recipe, trainer.batches.dataset
    classes = data.classes or ()
    time = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
    rows = {
        "classes": listed(classes, MAX_CLASSES),
        "conditions": "; ".join(f"`{name}`: {each.expected}" for name, each in recipe.conditions.items()),
        "network": recipe.record["network"]["type"],
        "schedule": f"{recipe.schedule.type}, T = {recipe.schedule.num_train_timesteps}",
        "prediction": f"{recipe.prediction}, loss `{recipe.loss}`, weighting `{recipe.weighting}`",
        "data": f"{len(data.trained):,} images, source `{recipe.record['data']['source']}`",
        "begun from": recipe.record["init"],
        "training": f"{trainer.step:,} steps of {recipe.batch_size}, {trainer.step * recipe.batch_size:,} images",
        "time": f"{time} in {trainer.precision} on {place(trainer)}",
        "copies": "" if copies is None else COPIES.format(100 * copies),
        "average": f"decay {recipe.ema_decay}",
        "defaults": f"`{recipe.defaults.sampler}`, {recipe.defaults.steps} steps",
    }
    return CARD.format(
        name=recipe.name,
        size=" x ".join(map(str, recipe.shape[1:])),
        kinds=f" of {len(classes)} classes" if classes else "",
        parameters=trainer.parameters,
        rows="\n".join(f"| {key} | {value} |" for key, value in rows.items() if value),
    )


def place(trainer: Trainer) -> str:
    """Returns the processors of a run, for people."""
    count = trainer.processes.count
    if trainer.device.type == "cuda":
        return f"{count} x {torch.cuda.get_device_name(trainer.device)}"
    threads = count * torch.get_num_threads()
    return f"{threads} {'thread' if threads == 1 else 'threads'} of {processor_name()}"
