"""What a number format gains and costs on this machine, which `difuso convert --precision` prints before it writes."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from difuso.jobs.queries import SamplingQuery
from difuso.model import Checkpoint
from difuso.model.folders.config import Precision
from difuso.training.data.images import ImageArray
from difuso.worker.engine.models import make_runner
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import Runner, pick_device

from ..drawing.drawing import model_of
from ..drawing.sampled_images import SampledImages
from ..options import read_settings
from ..progress import progress

KID_IMAGES = 32  # the fewest for KID: of either half eight parts, each of at least two
STEPS = 50  # of each image, or those of the model's own settings if they are fewer


def compare_formats(checkpoint: Checkpoint, *, precision: Precision, images: int) -> Iterator[str]:
    """Measures a model in float32 and in another format; yields lines for people. The model keeps its weights.

    The warm-up times a lone image and full batches. Then both formats draw the same images, if they are grey or RGB and
    the model draws from noise and needs no condition. KID is between the first half of one format's images and the
    second half of the other's, which share no noise. Beside it stands KID between both halves in float32, which shows
    what other seeds alone make of it.

    Args:
        images: the number of images, at least KID_IMAGES for KID; 0 draws none.
    """
    settings = read_settings(WorkerSettings)
    device = pick_device(settings.device)
    others = {name: deepcopy(getattr(checkpoint, name)) for name in ("network", "classifier", "weaker")}
    old, new = (
        make_runner(each, settings.model_copy(update={"precision": name}), device=device)
        for each, name in ((checkpoint, "float32"), (replace(checkpoint, **others), precision))
    )
    yield f"{new.precision} against float32 on {device}:"
    yield (
        f"a lone image: {1000 * new.step_seconds:.1f} ms a step and {1000 * old.step_seconds:.1f}, "
        f"{old.step_seconds / new.step_seconds:.2f} times as fast"
    )
    yield f"full batches: {new.rate:.1f} image-steps/s and {old.rate:.1f}, {new.rate / old.rate:.2f} times as fast"
    config = checkpoint.config
    draws_freely = config.accepts(None if config.classes is None else 0)  # a class, and nothing else
    if not images or config.condition is not None or config.shape.planes > 1 or not draws_freely:
        return
    before, after = (_draw(runner, images) for runner in (old, new))
    apart = np.abs(before.astype(np.int16) - after)
    yield f"grey levels: {apart.mean():.2f} apart on average and {apart.max()} at most, in {images} images"
    if images < KID_IMAGES:
        return
    try:
        yield _kernel_distances(before, after)
    except ModuleNotFoundError:
        yield "KID was not measured: it needs the extra difuso[evaluate]"


def _kernel_distances(before: ImageArray, after: ImageArray) -> str:
    from difuso.evaluation.distances import kernel_distance
    from difuso.evaluation.features import EfficientNetLite0

    extractor, half = EfficientNetLite0(), len(before) // 2
    first, second, other = (extractor(each).pooled for each in (before[:half], before[half:], after[half:]))
    formats, seeds = kernel_distance(first, other), kernel_distance(first, second)
    return (
        f"KID x 1000: {1000 * formats.value:.2f} ± {1000 * formats.spread:.2f} between the formats, and "
        f"{1000 * seeds.value:.2f} ± {1000 * seeds.spread:.2f} between seeds in float32"
    )


def _draw(runner: Runner, count: int) -> ImageArray:
    """Returns images of the seeds 0 to count - 1, and of the classes in turn; uint8, shape (count, H, W, 3)."""
    model, classes = model_of(runner), runner.checkpoint.config.classes or ()
    asked = {"steps": min(STEPS, model.defaults.steps), "seed": [0], "label": [*classes[:1]] or None}
    params = model.settle(SamplingQuery.model_validate(asked))
    with TemporaryDirectory() as folder, progress(f"{count} images in {runner.precision}") as report:
        images = SampledImages(model, params, Path(folder), labels=range(len(classes)))
        return images.all(count, report)
