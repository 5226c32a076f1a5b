"""The plain loop over one plan, with which the server's engine must agree."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, TypedDict, overload

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .conditions import Conditions, Value, VectorSequence
from .errors import PlanError
from .guidance import guided_output
from .network_inputs import inputs_of
from .networks.classifier import log_prob_gradient
from .noise import draw_noise, image_generator
from .plans.plan import Column, Plan
from .step import advance, remembered

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A network, or a formula in its place: from (x_t (B, C, H, W), t (B,)) to the prediction, shape of x_t.

t is int64, or float32 if a plan visits levels between the timesteps. If the variance was learned, the prediction has
twice the channels.
"""

Guide = Callable[[Tensor, Tensor], Tensor]
"""A classifier's guidance: from (x_t (B, C, H, W), t (B,)) to the gradient of log p(y | x_t), shape of x_t."""


class Networks(TypedDict):
    """The networks of a model, as `sample` takes them."""

    denoiser: Denoiser
    base: Denoiser | None
    guide: Guide | None


def networks_of(
    checkpoint: Checkpoint, label: int | None = None, conditions: Mapping[str, Any] = MappingProxyType({})
) -> Networks:
    """Returns the networks that draw images of a class, and those that can guide it, None for missing ones.

    Without a weaker network the base is the network without the conditions that may be left out.

    Args:
        checkpoint: a model that draws from noise alone.
        label: index of the class; None for images without a class.
        conditions: the values of the model's conditions by name; a map is a tensor of indices, shape (h, w), an image
            one in [-1, 1], shape (C, h, w), and a sequence a list, an array or a tensor, shape (l, width).

    Raises PlanError if the model draws from an image, or if the class or a value is unknown or missing; at their calls
    for images of another shape.
    """
    config, classifier, weaker = checkpoint.config, checkpoint.classifier, checkpoint.weaker_version
    if config.condition is not None:
        raise PlanError("this model draws from an image: call its network yourself")
    if label is not None and not 0 <= label < config.num_labels:
        raise PlanError(f"must be one of the model's {config.num_labels} classes, by index", "label", got=label)
    if label is None and config.classes is not None and not config.network.null_class:
        raise PlanError("is needed by this model: name a class, by index", "label")
    values = _values(config.conditions, conditions)

    def asked(network: nn.Module, but: Collection[str] = ()) -> Denoiser:
        one = inputs_of(config.conditions, [{name: values[name] for name in values.keys() - but}], config.shape[1:])
        if config.classes is not None:
            one["labels"] = torch.tensor([len(config.classes) if label is None or "label" in but else label])

        def call(x_t: Tensor, t: Tensor) -> Tensor:
            if tuple(x_t.shape[1:]) != tuple(config.shape):
                raise PlanError(f"must be {tuple(config.shape)}, as the model draws", "shape", got=tuple(x_t.shape[1:]))
            out: Tensor = network(x_t, t, **{name: _for_each(part, x_t) for name, part in one.items()})
            return out

        return call

    base: Denoiser | None = None
    left_out = config.left_out({*conditions, *(() if label is None else ("label",))})
    if weaker is not None:
        base = asked(weaker.denoiser)
    elif left_out:
        base = asked(checkpoint.denoiser, left_out)
    guide: Guide | None = None
    if label is not None and classifier is not None:
        labels = torch.tensor([label])
        guide = lambda x_t, t: log_prob_gradient(classifier, x_t, t, _for_each(labels, x_t))  # noqa: E731
    return {"denoiser": asked(checkpoint.denoiser), "base": base, "guide": guide}


def _values(conditions: Conditions, given: Mapping[str, Any]) -> dict[str, Value | Tensor]:
    """Returns the values of a model's conditions as `inputs_of` takes them; raises PlanError if one is wrong."""
    for name in given.keys() - conditions.keys():
        raise PlanError(f"{name} is not a condition of this model: it has {', '.join(conditions) or 'none'}")
    for name, condition in conditions.items():
        if name not in given and not condition.null:
            raise PlanError(f"{name} is needed by this model: give it {condition.expected}")
    read: dict[str, Value | Tensor] = {}
    for name, value in given.items():
        condition = conditions[name]
        try:
            if isinstance(condition, VectorSequence):
                array = value.detach().float().cpu().numpy() if isinstance(value, Tensor) else value
                read[name] = torch.from_numpy(condition.array(array))
            else:
                read[name] = value if isinstance(value, Tensor) else condition.read(value)
        except ValueError as error:
            raise PlanError(str(error), f"the condition {name}") from error
    return read


def _for_each(argument: Tensor, x: Tensor) -> Tensor:
    """Repeats the argument of one image for each of a batch, on its device."""
    return argument.to(x.device).expand(len(x), *argument.shape[1:])


@overload
def sample(
    plan: Plan,
    denoiser: Denoiser,
    *,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    device: torch.device | str = ...,
    dtype: torch.dtype = ...,
    noise: Tensor | None = ...,
    return_noise: Literal[False] = ...,
    base: Denoiser | None = ...,
    guide: Guide | None = ...,
    on_step: Callable[[float, Tensor, Tensor], object] = ...,
) -> Tensor: ...


@overload
def sample(
    plan: Plan,
    denoiser: Denoiser,
    *,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    device: torch.device | str = ...,
    dtype: torch.dtype = ...,
    noise: Tensor | None = ...,
    return_noise: Literal[True],
    base: Denoiser | None = ...,
    guide: Guide | None = ...,
    on_step: Callable[[float, Tensor, Tensor], object] = ...,
) -> tuple[Tensor, Tensor]: ...


@torch.inference_mode()
def sample(
    plan: Plan,
    denoiser: Denoiser,
    *,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    noise: Tensor | None = None,
    return_noise: bool = False,
    base: Denoiser | None = None,
    guide: Guide | None = None,
    on_step: Callable[[float, Tensor, Tensor], object] = lambda timestep, x, x0: None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Runs a plan to images, shape (len(seeds), C, H, W); with `return_noise` returns them and the x_t where it began.

    Args:
        plan: the plan of `make_plan`.
        denoiser: called len(plan) times with all images at once.
        shape: shape (C, H, W) of one image.
        seeds: one seed per image; image i of a request with seed s has the seed s + i.
        device: the device of the state.
        dtype: the dtype of the state, and so of the denoiser's input.
        noise: the x_t from which the run begins, shape (len(seeds), C, H, W): pure noise x_T, or that of a plan with a
            `start`; None for the noise of the seeds. The first draw of each seed is skipped then: it is the noise for
            `q_sample`, which no later step may repeat.
        return_noise: whether to return `noise` too, or what was drawn in its place, in the device and dtype of the
            state.
        base: the network that a plan with guidance moves away from: the weaker network, or the denoiser without label;
            called only where the plan is guided.
        guide: the guidance of a plan with a classifier scale.
        on_step: called after each network call with its timestep, x_t after the step and the predicted x0.

    Raises PlanError if the plan needs a base or a guide, and there is none; or if the noise has another shape.

    Examples:
        >>> from difuso.model import NoiseSchedule, make_plan
        >>> plan = make_plan(NoiseSchedule.linear(), sampler="ddim", steps=4)
        >>> noise_free = lambda x_t, t: torch.zeros_like(x_t)  # stands for a network that predicts noise
        >>> sample(plan, noise_free, shape=(3, 8, 8), seeds=[7, 8]).shape
        torch.Size([2, 3, 8, 8])
    """
    if plan.by_classifier and guide is None:
        raise PlanError("this plan has a classifier scale, so it needs a guide")
    if base is None and any(scale != 1.0 for scale in plan.scales):
        raise PlanError("this plan has a guidance scale, so it needs a base: a weaker network, or one without label")
    generators = [image_generator(seed) for seed in seeds]
    drawn = draw_noise(generators, shape)
    if noise is not None and noise.shape != drawn.shape:
        raise PlanError(f"must have the shape {tuple(drawn.shape)}", "noise", got=tuple(noise.shape))
    x = begun = (drawn if noise is None else noise).to(device, dtype)
    kept = (torch.zeros_like(x),) * 3
    table = torch.from_numpy(plan.table.copy()).to(dtype)
    for row, t, scale, keeps in zip(table, plan.timesteps, plan.scales, plan.keeps, strict=True):
        stochastic = bool(row[Column.S] != 0)
        z = draw_noise(generators, shape).to(x) if stochastic else torch.zeros_like(x)
        times = torch.full((len(seeds),), t, device=device)
        out = denoiser(x, times)
        if scale != 1.0 and base is not None:
            channels = shape[0]  # a learned variance is not guided
            guided = guided_output(out[:, :channels], base(x, times)[:, :channels], scale)
            out = torch.cat([guided, out[:, channels:]], dim=1)
        gradient = guide(x, times) if guide is not None and plan.by_classifier else None
        rows = row.expand(len(seeds), -1)
        x_next, x0 = advance(x, kept[0], out, z, rows, gradient, *kept[1:])
        if keeps:
            kept = (remembered(x, x0, rows), *kept[:2])
        x = x_next
        on_step(t, x, x0)
    return (x, begun) if return_noise else x
