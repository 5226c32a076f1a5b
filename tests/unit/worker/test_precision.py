"""Number formats of a worker: who chooses one, and that an image is the same in any batch."""

import io
import json
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.jobs.cascade import Enlarging
from difuso.jobs.contract import Job
from difuso.jobs.kinds.base import Task
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.kinds.upscale import Upscaling
from difuso.jobs.redis.workers import ModelReport
from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.config import Precision
from difuso.model.networks.configs import ForeignConfig, UNetConfig
from difuso.model.networks.unet import UNet
from difuso.model.png import PNG_KEY
from difuso.worker.device.calls import computing, precision_on
from difuso.worker.engine.models import make_runner
from difuso.worker.engine.served_models import Models
from difuso.worker.queue.reporting import Reporter
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import Runner
from tests.small_models import CLASSES, CLASSIFIER, NETWORK, WEAKER, checkpoint_of, upscaler_of
from tests.stepping import pngs_of, usual_job

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.processors]

CPU = torch.device("cpu")


def reported(runner: Runner) -> ModelReport:
    models = Models({"m@": runner})
    return Reporter(cast(Any, None), models, result_ttl=60)._held("m@", runner)


STAGE = Enlarging(
    model="up", sampler="ddim", steps=2, spacing="trailing", eta=0.0, variance="fixed_small", clip="static",
    augmentation=0.2, weight=4,
)  # fmt: skip


def settings(**chosen: Any) -> WorkerSettings:
    return WorkerSettings(device="cpu", **chosen)


def make_job(n: int, *, task: Task | None = None, **changes: Any) -> Job:
    usual: dict[str, Any] = {"n": n, "steps": 3, "sampler": "ddpm", "seed": 4}
    return usual_job(task, **usual | changes)


def recipe_of(png: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(png)) as image:
        facts: dict[str, Any] = json.loads(image.text[PNG_KEY])  # type: ignore[attr-defined]
    return facts


def guided() -> Checkpoint:
    """A model with all networks that guide; a new one each time, because a runner changes its networks."""
    network, weaker = UNetConfig(num_classes=3, **NETWORK), UNetConfig(num_classes=3, **WEAKER)
    return checkpoint_of(network, classes=CLASSES, classifier=CLASSIFIER, weaker=weaker)


@pytest.mark.parametrize(
    ("stated", "chosen"),
    [("float32", "model"), ("bfloat16", "model"), ("bfloat16", "float32"), ("float32", "bfloat16"), ("tf32", "tf32")],
)
def test_the_deployment_chooses_before_the_model(stated: Precision, chosen: Any) -> None:
    """And no CPU computes TF32."""
    runner = make_runner(guided().in_precision(stated), settings(precision=chosen), device=CPU, slots=2)
    wanted = stated if chosen == "model" else chosen
    assert runner.precision == ("bfloat16" if wanted == "bfloat16" else "float32")
    assert isinstance(runner.checkpoint.network, UNet)
    weight = runner.checkpoint.network.conv_in.weight
    assert (reported(runner).precision, weight.dtype == torch.bfloat16) == (runner.precision, wanted == "bfloat16")


@pytest.mark.parametrize(
    "way",
    [{"label": 1, "guidance_scale": 3.0}, {"label": 2, "classifier_scale": 4.0}],
    ids=["weaker network", "classifier"],
)
def test_an_image_has_the_same_bytes_alone_and_among_others(way: dict[str, Any]) -> None:
    runner = Runner(guided().in_precision("bfloat16"), device=CPU, slots=4)
    together = pngs_of(runner, make_job(3, **way))
    for index, png in enumerate(together):
        assert pngs_of(runner, make_job(1, seed=4 + index, **way)) == [png]
    assert recipe_of(together[0])["precision"] == "bfloat16"
    float32 = pngs_of(Runner(guided(), device=CPU, slots=4), make_job(3, **way))
    assert "precision" not in recipe_of(float32[0])
    mine, theirs = (
        np.stack([np.asarray(Image.open(io.BytesIO(png)), float) for png in made]) for made in (together, float32)
    )
    assert 0 < np.abs(mine - theirs).mean() < 12  # grey levels; other noise would give 60


def test_both_stages_of_a_cascade_name_their_formats() -> None:
    first = Runner(checkpoint_of(UNetConfig(**NETWORK)), device=CPU, slots=2)
    second = Runner(upscaler_of().in_precision("bfloat16"), device=CPU, slots=2)
    asked = make_job(1, task=Upscaling(augmentation=0.2))
    (png,) = pngs_of(second, asked, [torch.zeros(3, 8, 8)])
    assert recipe_of(png)["precision"] == "bfloat16"
    cascade = make_job(1, task=Generation(upscale=STAGE))
    (png,) = pngs_of(first, cascade, upscaler=second)
    assert (recipe_of(png).get("precision"), recipe_of(png)["upscaler_precision"]) == (None, "bfloat16")


def test_a_network_of_another_package_stays_float32() -> None:
    """Nothing says which of its layers may be bfloat16."""
    config = replace(guided().config, network=ForeignConfig(type="mylab.nets:Denoiser"), precision="bfloat16")
    assert precision_on(CPU, config) == "float32"


def test_a_gpu_rounds_to_tf32_only_where_the_format_is_tf32() -> None:
    """What PyTorch allows is a matter of the process, so it is set anew for each call."""
    backends: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [each.allow_tf32 for each in backends]
    try:
        for precision, allowed in (("tf32", True), ("float32", False), ("bfloat16", False)):
            config = guided().in_precision(precision).config  # type: ignore[arg-type]
            assert precision_on(torch.device("cuda"), config) == precision
            with computing(torch.device("cuda"), precision):
                assert [each.allow_tf32 for each in backends] == [allowed] * 2
    finally:
        for each, was in zip(backends, before, strict=True):
            each.allow_tf32 = was
