"""Distillation: a network learns to do in one call what its guided teacher does in several.

Guidance takes two calls a step, and its result can be learned (Meng et al. 2023, "On Distillation of Guided
Diffusion Models", section 3.1). The result of several steps of DDIM can be learned too (Salimans & Ho 2022,
"Progressive Distillation for Fast Sampling of Diffusion Models", algorithm 2).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from difuso.model.checkpoint import load_checkpoint
from difuso.model.errors import PlanError
from difuso.model.folders.config import ModelConfig
from difuso.model.guidance import Guidance, guided_output
from difuso.model.network_inputs import NetworkInputs, without_optional
from difuso.model.noise import q_sample
from difuso.model.plans.plan import Column, Plan
from difuso.model.plans.schedule import NoiseSchedule
from difuso.model.plans.settings import GUIDANCE
from difuso.model.step import advance

from ..errors import RecipeError, check_classes, checkpoint_errors
from ..recipe import Recipe
from .losses import Losses, Network

SHARED = ("network", "image_size", "channels", "schedule", "prediction", "variance", "clip", "condition", "conditions")


class Teacher:
    """The network that a student begins from, with its guidance; raises RecipeError if it cannot teach the student."""

    def __init__(self, recipe: Recipe, classes: Sequence[str] | None, device: torch.device) -> None:
        with checkpoint_errors("init", recipe.init):
            checkpoint = load_checkpoint(recipe.init, device=device, networks=recipe.own_modules)
        check_teacher(recipe, checkpoint.config)
        known, numbers = checkpoint.config.classes, [str(number) for number in range(len(classes or ()))]
        if classes and known and numbers not in (list(classes), list(known)):  # else one of the two only numbers them
            check_classes("the images", classes, "the teacher", known)
        guidance = _guidance(recipe, checkpoint.config)
        self._guided = guidance.scale != 1.0
        # A compiled network takes batches of one size, and looking for the guided images makes a GPU's host wait.
        self._whole = recipe.compile or not guidance.limited
        self._weights = torch.from_numpy(guidance.weights(checkpoint.schedule.sigmas)).to(device, torch.float32)
        self._config, self._network = checkpoint.config, checkpoint.denoiser
        self._base = (checkpoint.weaker_version or checkpoint).denoiser
        if recipe.compile:
            for network in {self._network, self._base}:
                # Of static shapes: two networks of other widths would be taken for one of any width, and fail.
                network.compile(dynamic=False)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: Tensor, **inputs: Tensor) -> Tensor:
        """Returns the guided prediction, shape of x_t; `inputs` are the network's other arguments."""
        out: Tensor = self._network(x_t, t, **inputs)
        if not self._guided:
            return out
        scale = self._weights[t.to(self._weights.device, torch.int64)]
        rows = torch.arange(len(out), device=scale.device) if self._whole else (scale != 1.0).nonzero().flatten()
        if not len(rows):
            return out
        inputs = base_inputs(self._config, {name: values[rows] for name, values in inputs.items()})
        base: Tensor = self._base(x_t[rows], t[rows], **inputs)[:, : x_t.shape[1]]
        guided = guided_output(out[rows], base, scale[rows].view(-1, 1, 1, 1))
        return out.index_copy(0, rows, guided.to(out.dtype))


def base_inputs(config: ModelConfig, inputs: NetworkInputs) -> NetworkInputs:
    """Returns the inputs of the base: those of a weaker network, or else none of what may be left out."""
    if config.weaker is not None:
        return inputs
    if config.classes is not None and config.network.null_class:
        inputs = inputs | {"labels": torch.full_like(inputs["labels"], len(config.classes))}
    conditions = {name: each for name, each in config.declared.items() if name != "label"}
    return without_optional(conditions, inputs)


def check_teacher(recipe: Recipe, teacher: ModelConfig) -> None:
    """Raises RecipeError if a model differs from the student where they must agree, or has no guidance to teach."""
    student, guidance = recipe.model_config({}), _guidance(recipe, teacher)
    for key in SHARED:
        if getattr(student, key) != getattr(teacher, key):
            raise RecipeError(f"loss distillation needs the {key} of the teacher, {recipe.init!r}: it differs")
    record = teacher.training.get("recipe")
    learned = isinstance(record, Mapping) and (
        record.get("teacher_calls", 1) != 1 or record.get("loss") == "regression"
    )
    asked = recipe.defaults.steps * recipe.teacher_calls
    if learned and (recipe.teacher_calls == 1 or asked != teacher.defaults.steps):
        raise RecipeError(
            f"{recipe.init!r} learned to draw in {teacher.defaults.steps} steps and knows no others: teacher_calls, 2 "
            f"or more, times defaults.steps must be {teacher.defaults.steps}"
        )
    if guidance.scale != 1.0 and teacher.never_guided is not None:
        raise RecipeError(f"guidance_scale must be 1: {recipe.init!r} {teacher.never_guided}")
    if guidance.limited and (guidance.weights(teacher.schedule.build().sigmas) == 1.0).all():
        raise RecipeError("no timestep has a sigma between guidance_low and guidance_high: widen the interval")
    if guidance.scale == 1.0 and recipe.teacher_calls == 1:
        raise RecipeError(
            f"the student already says what {recipe.init!r} says without guidance: set guidance_scale, or teacher_calls"
        )


def _guidance(recipe: Recipe, teacher: ModelConfig) -> Guidance:
    """Returns the guidance that the recipe asks for, or else the teacher's own."""
    try:
        return teacher.settle(**{name: getattr(recipe, name) for name in GUIDANCE}).guidance
    except PlanError as error:
        raise RecipeError(str(error)) from error


class Distillation:
    """The squared difference between the predictions of student and teacher at the same x_t.

    `plans` are those of both, the teacher's with a multiple of the steps; None if the prediction at each timestep is
    learned.
    """

    def __init__(self, schedule: NoiseSchedule, plans: tuple[Plan, Plan] | None = None) -> None:
        self._schedule = schedule
        self._plans = [(torch.tensor(plan.timesteps), torch.tensor(plan.table)) for plan in plans or ()]

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor, teacher: Network) -> Losses:
        """The losses of a student at x_t; the arguments are those of `losses.Objective`, and the teacher."""
        x_t = q_sample(self._schedule, x0, t, noise)
        aim = self._after_several_steps(teacher, x_t, t) if self._plans else teacher(x_t, t)
        error = (network(x_t, t) - aim).square().mean((1, 2, 3))
        return Losses.of_prediction(error, error)

    def _after_several_steps(self, teacher: Network, x_t: Tensor, t: Tensor) -> Tensor:
        """The prediction with which a student arrives in one step of DDIM where its teacher arrives in several."""
        (timesteps, table), (other_timesteps, other_table) = self._plans
        position, calls = (t[:, None] == timesteps).int().argmax(dim=1), len(other_timesteps) // len(timesteps)
        x, x0 = x_t, torch.zeros_like(x_t)
        for row in (calls * position + call for call in range(calls)):
            out = teacher(x, other_timesteps[row].to(t))
            x, x0 = advance(x, x0, out, torch.zeros_like(x), other_table[row])
        columns = table[position].to(x)[:, :, None, None, None]
        # Both lines of a plan, solved for the output: x' = A x_t + B x0 and x0 = X0_X x_t + X0_OUT out.
        x0 = (x - columns[:, Column.A] * x_t) / columns[:, Column.B]
        return (x0 - columns[:, Column.X0_X] * x_t) / columns[:, Column.X0_OUT]


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> Distillation:
    """Returns the loss of a student, which takes its teacher too."""
    if recipe.teacher_calls == 1:
        return Distillation(schedule)
    config = recipe.model_config({})  # its trailing timesteps are among those of more steps
    teacher = config.plan(schedule, steps=recipe.defaults.steps * recipe.teacher_calls)
    return Distillation(schedule, (config.plan(schedule), teacher))
