"""What /interpolate, /denoise and /restore make of their parameters, and of what comes with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from difuso.jobs.catalog import ModelInfo
from difuso.jobs.contract import new_job
from difuso.jobs.cost import cost_of
from difuso.jobs.errors import ImageRefused, RequestRefused
from difuso.jobs.image_recipe import job_of, recipe
from difuso.jobs.images.fitting import Fitted
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.denoise import DenoiseQuery
from difuso.jobs.kinds.interpolate import InterpolateQuery
from difuso.jobs.kinds.restore import RestoreQuery
from difuso.jobs.params import MAX_SEED, SamplingParams
from difuso.jobs.queries import SamplingQuery
from difuso.model.errors import PlanError
from difuso.model.folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from difuso.model.networks.configs import ClassifierConfig, UNetConfig
from difuso.model.plans.noise_level import GREY_LEVEL
from tests.pictures import saved


def model(**changes: Any) -> ModelInfo:
    facts: dict[str, Any] = {
        "network": UNetConfig(),
        "image_size": 16,
        "classes": ("cat", "dog"),
        "defaults": SamplerDefaults(sampler="ddpm", steps=200, spacing="leading"),
    }
    return ModelInfo("pets", ModelConfig(**facts | changes), parameters=1, version="0" * 64)


MODEL = model()
GREY = model(channels=1)
PLANNED = model(plans={"few": SamplerDefaults("ddim", 3, "at:40,300,900")})
ODD = model(image_size=10)
CLASSIFIED = model(classes=None, classifier=ClassifierConfig(num_classes=3))
LARGE = model(variance="fixed_large")
ZERO_SNR = model(prediction="v", schedule=ScheduleConfig(num_train_timesteps=10, zero_terminal_snr=True))
IMAGE = Fitted(saved(Image.new("RGB", (16, 16), "red"), "PNG"), 30, 20)
OTHER = Fitted(saved(Image.new("RGB", (16, 16), "blue"), "PNG"), 40, 20)


def asked(kind: str, model: ModelInfo, sent: dict[str, Any], **images: Fitted) -> tuple[SamplingParams, Any]:
    prepared = KINDS[kind].prepare(KINDS[kind].query.model_validate(sent), model, images)
    return prepared.params, prepared.task


def interpolate(**sent: Any) -> tuple[SamplingParams, Any]:
    return asked("interpolate", MODEL, sent)


def denoise(model: ModelInfo = MODEL, estimate: float = 25.0, **sent: Any) -> tuple[SamplingParams, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("difuso.jobs.kinds.denoise.estimate_sigma", lambda png, planes: estimate)
        return asked("denoise", model, sent, image=IMAGE)


def restore(model: ModelInfo = MODEL, **sent: Any) -> tuple[SamplingParams, Any]:
    return asked("restore", model, sent)


def test_the_seed_of_the_last_image_is_one_that_may_be_asked_for_too() -> None:
    def last(kind: str, **sent: Any) -> int:
        params, task = asked(kind, MODEL, sent)
        return int(task.seed(params, params.n - 1))

    assert last("generate", n=4, seed=MAX_SEED - 3) == MAX_SEED
    with pytest.raises(RequestRefused, match=f"seed: Input should be at most {MAX_SEED - 3} for 4 images in a row"):
        last("generate", n=4, seed=MAX_SEED - 2)
    shares = {"lambda": [0, 0.5, 1]}
    assert last("interpolate", seed=MAX_SEED, **shares) == MAX_SEED  # all images have the same seed
    assert last("interpolate", seed=[MAX_SEED, 3], **shares) == MAX_SEED


LIMITS: dict[str, Any] = {"label": "dog", "guidance_scale": 2.0, "guidance_low": 0.2, "guidance_high": 3.0}


@pytest.mark.parametrize(
    ("kind", "sent", "first", "runs"),
    [
        ("generate", {"steps": 20, "n": 3}, 999, 3),
        ("generate", {"steps": 9, "sampler": "heun", "spacing": "karras"}, 999, 1),
        ("denoise", {"strength": 0.5, "steps": 20, "n": 2}, 499, 2),
        ("denoise", {"sigma": 60, "mode": "mmse"}, 156, 1),
        ("interpolate", {"lambda": [0.2, 0.5, 0.8], "steps": 20}, 499, 3),
        ("interpolate", {"seed": [3, 9], "steps": 20}, 999, 1),
        ("restore", {"task": "colorize", "steps": 20}, 999, 1),
    ],
)
def test_guidance_costs_a_second_call_within_the_interval_only(
    kind: str, sent: dict[str, Any], first: int, runs: int
) -> None:
    query = KINDS[kind].query.model_validate(sent | LIMITS)
    prepared = KINDS[kind].prepare(query, MODEL, {})
    start = None if first == 999 else first
    params = prepared.params
    plan = MODEL.config.plan_of(MODEL.schedule, params, start=start)
    sigmas = MODEL.schedule.sigma_at(np.array(plan.timesteps))
    guided = int(((sigmas > 0.2) & (sigmas <= 3.0)).sum())
    assert guided > 0
    assert prepared.guided_steps == guided
    job = new_job("pets", prepared)
    assert job.image_steps == cost_of(prepared, MODEL).image_steps == runs * (params.steps + guided)
    whole = KINDS[kind].prepare(query.model_copy(update={"guidance_low": None, "guidance_high": None}), MODEL, {})
    assert cost_of(whole, MODEL).image_steps == runs * 2 * params.steps


def test_an_inversion_costs_as_many_guided_calls_as_an_image() -> None:
    sent = {"lambda": [0.2, 0.5, 0.8], "mode": "ddim", "steps": 20} | LIMITS
    prepared = KINDS["interpolate"].prepare(KINDS["interpolate"].query.model_validate(sent), MODEL, {})
    guided = prepared.guided_steps
    assert guided is not None
    assert 0 < guided < 19
    assert cost_of(prepared, MODEL).image_steps == 3 * (20 + guided) + 2 * (19 + guided)


def test_the_recipe_of_an_image_has_the_interval_of_its_guidance_and_no_other_recipe_has_one() -> None:
    def made(**sent: Any) -> dict[str, Any]:
        query = KINDS["generate"].query.model_validate({"seed": 3, "n": 1, "label": "dog"} | sent)
        job = new_job("pets", KINDS["generate"].prepare(query, MODEL, {}))
        facts = recipe(job, 0, model="pets", version="0" * 64, timesteps=())
        assert job_of(facts).params == job.params
        return facts

    facts = made(**LIMITS)
    assert (facts["guidance_low"], facts["guidance_high"]) == (0.2, 3.0)
    assert not {"guidance_low", "guidance_high"} & made(guidance_scale=2.0).keys()
    assert "guided_steps" not in facts


def test_each_lambda_is_one_picture() -> None:
    params, task = interpolate(**{"lambda": [0.0, 0.25, 1.0]}, t=9)
    assert task.shares == (0.0, 0.25, 1.0)
    assert params.n == 3
    assert params.steps == 10  # there are no more from timestep 9


def test_an_interpolation_has_one_seed_and_may_have_a_class_for_each_lambda() -> None:
    shares = {"lambda": [0.2, 0.5, 0.8]}
    for label, expected in (("dog", 1), (["dog", "cat", "1"], (1, 0, 1)), ("all", (0, 1, 0))):
        params, task = interpolate(**shares, seed=7, label=label)
        assert (params.n, params.label) == (3, expected)
        assert [task.seed(params, index) for index in range(3)] == [7] * 3
    assert interpolate(label="all")[0].label == 0
    for sent, parameter in (
        ({**shares, "label": ["dog", "cat"]}, "label"),
        ({"label": ["dog", "cat"]}, "label"),
        ({**shares, "label": ["dog", "cat", "dog"], "n": 2}, "n"),
        ({**shares, "label": ["dog", "cat", "dog"], "mode": "ddim"}, "label"),
        ({**shares, "label": "all", "mode": "ddim"}, "label"),
    ):
        with pytest.raises(RequestRefused) as caught:
            interpolate(**sent)
        assert caught.value.parameter == parameter
    with pytest.raises(ValidationError, match="at most 2 items"):
        interpolate(**{"lambda": [0.2, 0.5, 0.7]}, seed=[1, 2, 3])


QUIET = model(defaults=SamplerDefaults(sampler="dpmpp", steps=12, spacing="trailing"))
ANCESTRAL = model(defaults=SamplerDefaults(sampler="ddim", steps=20, spacing="quad", eta=1.0))
PLANS = model(
    defaults=SamplerDefaults(sampler="ddpm", steps=1000, spacing="leading"),
    variance="fixed_large",
    plans={"few": SamplerDefaults("unipc", 3), "noisy": SamplerDefaults("ddim", 8, eta=0.5)},
)


def between(model: ModelInfo, **sent: Any) -> tuple[SamplingParams, Any]:
    return asked("interpolate", model, {"seed": [3, 9]} | sent)


def test_two_seeds_are_the_ends_of_ordinary_runs() -> None:
    params, task = between(MODEL, **{"lambda": [0, 0.5, 1]}, label="all")
    assert (task.seeds, task.shares, task.depth) == ((3, 9), (0.0, 0.5, 1.0), None)
    assert (params.n, params.seed, params.label) == (3, 3, (0, 1, 0))
    assert task.image_steps(params) == 3 * params.steps
    own = asked("generate", QUIET, {"seed": 3})[0]
    assert between(QUIET)[0] == own
    assert between(QUIET, steps=1000)[0].steps == 1000
    for sent in ({"seed": [7]}, {}):
        assert asked("interpolate", MODEL, sent)[1].seeds is None


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        (QUIET, {}, ("dpmpp", 12, "trailing")),
        (QUIET, {"sampler": "unipc", "steps": 5}, ("unipc", 5, "exponential")),
        (MODEL, {}, ("ddim", 200, "leading")),
        (MODEL, {"eta": 0}, ("ddim", 200, "leading")),
        (MODEL, {"sampler": "heun", "steps": 9}, ("heun", 9, "karras")),
        (ANCESTRAL, {}, ("ddim", 20, "quad")),
        (ANCESTRAL, {"sampler": "ddim"}, ("ddim", 20, "quad")),
        (PLANS, {"steps": 10}, ("ddim", 10, "leading")),
        (PLANS, {"plan": "few"}, ("unipc", 3, "leading")),
        (PLANS, {"plan": "noisy", "eta": 0}, ("ddim", 8, "leading")),
    ],
)
def test_the_sampler_between_two_seeds_draws_no_noise_unless_it_is_asked_for(
    model: ModelInfo, sent: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    params, _ = between(model, **sent)
    assert (params.sampler, params.steps, params.spacing) == expected
    assert params.eta == 0.0
    assert not model.config.plan_of(model.schedule, params).stochastic


@pytest.mark.parametrize(
    "sent", [{"sampler": "ddpm", "steps": 1000}, {"sampler": "ddim", "eta": 0.5}, {"plan": "noisy"}]
)
def test_noise_between_two_seeds_that_is_asked_for_needs_a_worker_that_knows_it(sent: dict[str, Any]) -> None:
    params, task = between(PLANS, **sent)
    assert PLANS.config.plan_of(PLANS.schedule, params).stochastic
    assert "noise between seeds" in task.needs(params)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"t": 0}, "t: Input should be omitted with two seeds"),
        ({"mode": "ddim"}, "mode: Input should be ddpm with two seeds"),
        ({"noise": "rescaled"}, "noise: Input should be shared with two seeds"),
        ({"fit": "contain"}, "fit: Input should be cover with two seeds"),
        ({"lambda": [0, 1.5]}, "lambda: Input should lie between 0 and 1"),
        ({"lambda": [0, 1], "n": 3}, "n: Input should be the number of lambdas, 2"),
        (
            {"lambda": [0, 1, 0.5], "label": ["dog", "cat"]},
            "label: Input should be one, or one for each of the 3 lambdas",
        ),
    ],
)
def test_what_has_no_meaning_between_two_seeds_is_refused(sent: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        between(PLANS, **sent)


def test_several_seeds_and_labels_are_images_of_one_upload() -> None:
    assert denoise(sigma=25.0, seed=[3, 9])[0].n == 2
    assert restore(task="colorize", seed=4, label=["dog", "cat"])[0].label == (1, 0)
    for sent in ({"seed": [3, 9]}, {"label": ["dog", "cat"]}, {"label": "all"}):
        with pytest.raises(RequestRefused, match=f"{next(iter(sent))}: Input should be one with mode mmse"):
            denoise(sigma=25.0, mode="mmse", **sent)
    assert denoise(sigma=25.0, mode="mmse", seed=[3], label=["dog"])[0].label == 1


def test_files_of_one_job_have_names_of_their_own() -> None:
    for (params, task), names in (
        (asked("generate", MODEL, {"seed": [3, 9]}), ["3", "9"]),
        (asked("generate", MODEL, {"seed": [3, 3], "label": ["dog", "cat"]}), ["3-class1", "3-class0"]),
        (denoise(sigma=25.0, seed=4, label=["dog", "cat"]), ["4-class1-denoise", "5-class0-denoise"]),
        (interpolate(**{"lambda": [0.5, 0.5]}, seed=4, label="all"), ["4-class0-0.5", "4-class1-0.5"]),
        (interpolate(**{"lambda": [0.25, 0.5]}, seed=4, label="dog"), ["4-0.25", "4-0.5"]),
        (between(MODEL, **{"lambda": [0.25, 0.5]}), ["3-to-9-0.25", "3-to-9-0.5"]),
        (between(MODEL, **{"lambda": [0.5, 0.5]}, label="all"), ["3-class0-to-9-0.5", "3-class1-to-9-0.5"]),
    ):
        assert [task.file_stem(params, index) for index in range(params.n)] == names


def test_what_was_inverted_is_drawn_without_noise_by_what_inverted_it() -> None:
    params, task = interpolate(mode="ddim")
    assert task.depth == 999
    assert (params.sampler, params.eta, params.spacing) == ("dpmpp", 0.0, "karras")
    assert interpolate(mode="ddim", t=499)[1].depth == 499
    few = model(defaults=SamplerDefaults("dpmpp", 10, "exponential", 3.0))
    inverted = [asked("interpolate", few, {"mode": "ddim", **sent})[0] for sent in ({}, {"t": 9}, {"steps": 4})]
    assert [each.steps for each in inverted] == [25, 10, 4], "what draws in few steps is inverted in more"
    params, _ = interpolate(mode="ddim", sampler="ddim", spacing="trailing")
    assert (params.sampler, params.eta, params.spacing) == ("ddim", 0.0, "trailing")
    for wrong, parameter in (({"sampler": "ddpm"}, "sampler"), ({"t": 0}, "t"), ({"eta": 1.0}, "eta")):
        with pytest.raises(RequestRefused) as refused:
            interpolate(mode="ddim", **wrong)
        assert refused.value.parameter == parameter
    with pytest.raises(PlanError, match=r"^steps must lie between 2 and 1000 to invert an image, got 1"):
        interpolate(mode="ddim", steps=1)


def test_the_noise_of_a_picture_decides_where_it_enters() -> None:
    levels = MODEL.schedule.sigmas
    params, task = denoise(sigma=25.0, n=4, average=True)
    assert levels[task.depth - 1] < 25.0 * GREY_LEVEL <= levels[task.depth]
    assert (task.sigma, task.estimated, task.mode, task.average) == (25.0, False, "sample", True)
    assert params.n == 4
    assert params.steps == min(200, task.depth + 1)


def test_noise_is_estimated_only_if_nothing_else_is_said() -> None:
    _, task = denoise(estimate=40.0)
    assert (task.sigma, task.estimated) == (40.0, True)
    assert denoise(estimate=40.0, sigma=10.0)[1].estimated is False
    assert denoise(estimate=40.0, sigma=0.0)[1].sigma == 0.0


def test_steps_are_as_many_as_an_estimated_depth_has() -> None:
    """Who does not know the depth cannot know the number."""
    params, task = denoise(estimate=2.0, steps=500)
    assert params.steps == task.depth + 1 < 10
    assert denoise(estimate=100.0, steps=5)[0].steps == 5
    with pytest.raises(PlanError, match=r"^steps must lie between 1 and "):
        denoise(sigma=2.0, steps=500)


@given(t=st.integers(0, 999))
def test_the_sigma_of_a_timestep_leads_back_to_it(t: int) -> None:
    _, task = denoise(t=t)
    assert task.depth == t
    assert denoise(sigma=task.sigma)[1].depth == t


def test_a_clean_picture_is_drawn_anew_from_so_far_into_the_noise() -> None:
    _, task = denoise(strength=0.5)
    assert (task.sigma, task.estimated, task.depth) == (None, False, 499)
    assert denoise(strength=1.0)[1].depth == 999
    assert denoise(strength=1e-9)[1].depth == 0


def test_a_guess_is_one_network_call() -> None:
    params, task = denoise(mode="mmse", sigma=25.0)
    assert task.mode == "mmse"
    assert (params.n, params.steps, params.sampler, params.eta) == (1, 1, "ddim", 0.0)
    assert denoise(LARGE, mode="mmse")[0].steps == 1


def test_restoration_has_the_noise_of_its_paper_and_more_steps() -> None:
    params, task = restore(task="superres", factor="4", sigma=10.0)
    assert (params.steps, params.sampler, params.eta) == (20, "ddim", 0.85)
    assert (task.degradation, task.factor, task.sigma) == ("superres", 4, 10.0)
    assert restore(task="inpaint", steps=7)[0].steps == 7
    assert restore(task="inpaint", spacing="at:5,500,900")[0].steps == 3
    few = model(schedule=ScheduleConfig(num_train_timesteps=8))
    assert restore(few, task="inpaint")[0].steps == 8


def test_a_weaker_network_guides_by_default_what_is_drawn_from_noise_alone() -> None:
    guided = model(classes=None, weaker=UNetConfig(channels=32), defaults=SamplerDefaults(guidance_scale=2.5))
    assert asked("generate", guided, {})[0].guidance_scale == 2.5
    assert asked("interpolate", guided, {"lambda": [0.5], "seed": [1, 2]})[0].guidance_scale == 2.5
    assert asked("interpolate", guided, {"lambda": [0.5]}, image_a=IMAGE, image_b=OTHER)[0].guidance_scale == 1.0
    assert restore(guided, task="inpaint")[0].guidance_scale == 1.0
    assert restore(guided, task="inpaint", guidance_scale=2.0)[0].guidance_scale == 2.0
    for what in ({"sigma": 25.0}, {"sigma": 25.0, "mode": "mmse"}, {"strength": 0.5}):
        assert denoise(guided, **what)[0].guidance_scale == 1.0


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (lambda: interpolate(**{"lambda": [0.5, 1.1]}), "lambda"),
        (lambda: interpolate(**{"lambda": [0.5, 0.6]}, n=3), "n"),
        (lambda: interpolate(t=1000), "t"),
        (lambda: denoise(sigma=1.0, t=5), "t"),
        (lambda: denoise(sigma=1.0, strength=0.5), "strength"),
        (lambda: denoise(t=1000), "t"),
        (lambda: denoise(ZERO_SNR, t=9), "t"),
        (lambda: denoise(sigma=25_000), "sigma"),
        (lambda: denoise(mode="mmse", strength=0.5), "mode"),
        (lambda: denoise(mode="mmse", n=2), "n"),
        (lambda: denoise(mode="mmse", sigma=50.0, steps=2), "steps"),
        (lambda: denoise(PLANNED, mode="mmse", plan="few"), "plan"),
        (lambda: denoise(LARGE, sigma=50.0, sampler="ddpm", steps=2), "steps"),
        (lambda: restore(ODD, task="superres", factor="4"), "factor"),
        (lambda: restore(GREY, task="colorize"), "task"),
        (lambda: restore(task="deblur", blur="uniform", width=4), "width"),
        (lambda: restore(task="inpaint", sampler="dpmpp"), "sampler"),
        (lambda: restore(task="inpaint", eta=0.0), "eta"),
        (lambda: restore(CLASSIFIED, task="inpaint", label="1", classifier_scale=2.0), "classifier_scale"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(request_: Any, name: str) -> None:
    with pytest.raises((RequestRefused, PlanError)) as refusal:
        request_()
    assert isinstance(refusal.value, RequestRefused | PlanError)
    assert refusal.value.parameter == name


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (InterpolateQuery, {"lambda": [0.5] * 65}),
        (InterpolateQuery, {"lambda": ["nan"]}),
        (InterpolateQuery, {"shares": [0.5]}),
        (DenoiseQuery, {"sigma": "nan"}),
        (DenoiseQuery, {"strength": 0}),
        (RestoreQuery, {}),
        (RestoreQuery, {"task": "superres", "factor": "3"}),
        (RestoreQuery, {"task": "inpaint", "mask": "a.png"}),
    ],
)
def test_what_makes_no_sense_for_any_model_is_refused(kind: type[SamplingQuery], sent: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(sent)


def shown(params: SamplingParams, task: Any) -> dict[str, Any]:
    """A job's parameters as a client reads them off it, and sends them again as text."""
    facts = params.model_dump(exclude_none=True) | task.model_dump(exclude_none=True)
    facts["seed"] = facts.pop("seeds", params.seed)
    facts |= {name: facts.pop(old) for name, old in (("lambda", "shares"), ("t", "depth")) if old in facts}
    text = {name: value if isinstance(value, tuple) else str(value) for name, value in facts.items()}
    return {name: value for name, value in text.items() if name not in ("kind", "estimated")}


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"lambda": [0.1, 0.9], "t": 300, "noise": "rescaled", "sampler": "dpmpp", "steps": 10},
        {"mode": "ddim", "steps": 30, "spacing": "quad", "label": "dog", "guidance_scale": 2.0},
        {"seed": [3, 9], "lambda": [0.0, 1.0], "sampler": "unipc", "steps": 10},
    ],
)
def test_an_interpolation_can_be_sent_as_its_job_shows_it(sent: dict[str, Any]) -> None:
    done = interpolate(**sent)
    assert interpolate(**shown(*done)) == done


@pytest.mark.parametrize("sent", [{}, {"sigma": 30.5, "n": 3, "average": True}, {"t": 100}, {"mode": "mmse", "t": 50}])
def test_a_denoising_can_be_sent_as_its_job_shows_it(sent: dict[str, Any]) -> None:
    params, task = denoise(**sent)
    again = shown(params, task)
    assert again.pop("t") == str(task.depth)  # follows from sigma
    assert denoise(**again) == (params, task.model_copy(update={"estimated": False}))


def test_what_comes_with_a_request_keeps_its_place_however_it_was_sent() -> None:
    mixed = KINDS["interpolate"].prepare(InterpolateQuery(), MODEL, {"image_b": OTHER, "image_a": IMAGE})
    assert mixed.images == (IMAGE, OTHER)
    mask = Fitted(OTHER.file, IMAGE.width, IMAGE.height)
    filled = KINDS["restore"].prepare(RestoreQuery(task="inpaint"), MODEL, {"mask": mask, "image": IMAGE})
    assert filled.images == (IMAGE, mask)


def test_a_mask_of_another_size_is_refused_by_name() -> None:
    with pytest.raises(ImageRefused, match=r"^The mask should have the size of the image, 30x20$") as refusal:
        KINDS["restore"].prepare(RestoreQuery(task="inpaint"), MODEL, {"mask": OTHER, "image": IMAGE})
    assert refusal.value.part == "mask"


def test_the_noise_is_measured_in_the_picture_that_was_sent() -> None:
    params, task = asked("denoise", MODEL, {}, image=IMAGE)
    assert (task.sigma, task.estimated, task.depth, params.steps) == (0.0, True, 0, 1)


@pytest.mark.parametrize(
    ("kind", "sent", "parts"),
    [
        ("generate", {}, {"noise"}),
        ("interpolate", {}, {"image_a", "image_b"}),
        ("denoise", {}, {"image"}),
        ("denoise", {"sigma": 5}, {"image"}),
        ("restore", {"task": "colorize"}, {"image"}),
        ("restore", {"task": "inpaint"}, {"image", "mask"}),
        ("interpolate", {"seed": [3]}, {"image_a", "image_b"}),
    ],
)
def test_each_kind_reads_what_it_needs(kind: str, sent: dict[str, Any], parts: set[str]) -> None:
    found = KINDS[kind]
    assert set(found.parts(found.query.model_validate(sent), MODEL).fits) == parts
    assert set(found.required) <= parts <= {*found.required, *found.optional}
