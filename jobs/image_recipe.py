"""The recipe of an image: what its PNG says about it, which is enough to make it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from difuso.model.folders.config import Precision
from difuso.model.plans.settings import SETTINGS

from .cascade import UNGUIDED
from .contract import Job, Timesteps, new_job
from .images.fitting import Fitted
from .kinds import KINDS
from .kinds.base import Prepared
from .kinds.generate import Generation
from .params import SamplingParams


def recipe(
    job: Job,
    index: int,
    *,
    model: str,
    version: str,
    timesteps: Timesteps,
    precision: Precision = "float32",
    upscaler_version: str | None = None,
    upscaler_precision: Precision = "float32",
) -> dict[str, Any]:
    """Returns the recipe of image `index` of a job. The bytes of its PNG depend on the order, too.

    It describes this image alone, with the seed that draws it by itself. Image 2 of seed 100 and the only image of seed
    102 are the same bytes, so the index within a request must not appear here; nor may anything that changes while the
    pixels stay, such as the version of difuso.

    In a cascade the timesteps are those of the first stage.
    """
    params = job.params
    conditions = {name: [value] for name, value in params.conditions_of(index).items()}
    settings = params.model_dump(include={*SETTINGS})  # those that the job has
    facts: dict[str, Any] = {
        "model": model,
        "version": version,
        **{name: settings[name] for name in UNGUIDED if name in settings},
        "seed": job.task.seed(params, index),
        "label": params.label_of(index),
        **({"conditions": conditions} if conditions else {}),
        **({"guide": list(params.guide)} if params.guide else {}),
        "guidance_scale": params.guidance_scale,
        "classifier_scale": params.classifier_scale,
        "timesteps": list(timesteps),
        **settings,
    }
    if precision != "float32":
        facts["precision"] = precision
    if job.bits != 8:
        facts["bits"] = job.bits
    facts |= job.task.facts(params, index, [picture.sha256 for picture in job.pictures])
    if upscaler_version is not None:
        facts["upscaler_version"] = upscaler_version
        if upscaler_precision != "float32":
            facts["upscaler_precision"] = upscaler_precision
    return facts


def job_of(facts: Mapping[str, Any], images: Sequence[Fitted] = ()) -> Job:
    """Returns the job that makes the image of a recipe, whose request came with these images in this order.

    Raises pydantic.ValidationError if the facts are not those of a recipe.
    """
    params = SamplingParams.model_validate(
        {"n": 1} | {name: facts[name] for name in SamplingParams.model_fields if name in facts}
    )
    kind = KINDS.get(str(facts.get("kind")))
    task = kind.task if kind is not None else Generation
    names = [field.alias or name for name, field in task.model_fields.items()]
    own = {name: facts[name] for name in names if name in facts}
    prepared = Prepared(params, task.model_validate(own), (*images,), bits=facts.get("bits", 8))
    return new_job(str(facts.get("model")), prepared)
