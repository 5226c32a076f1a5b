"""The trainer: noises an image, calls the network, steps."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from difuso.model.conditions import plane_count, sequences_in, vector_size
from difuso.model.memory import move
from difuso.model.networks.build import build_network
from difuso.model.networks.preconditioned import denoiser_of

from ..calls import autocast, compiled, format_of
from ..data.augmentation import augment_of
from ..data.batches import Batch, Batches, Drawn, Draws, Seeds, network_inputs
from ..errors import Diverged, RecipeError
from ..objective.distillation import Teacher
from ..objective.losses import Losses, Network
from ..objective.objectives import objective_of, timesteps_of
from ..recipe import Recipe
from .initial import seeds_of, take_over
from .optimizers import Ema, MatrixMuon, code_of, optimizers_of, rates_of, state_of, step
from .processes import ALONE, Processes, unsynchronised
from .progress import StepFacts

MAX_BAD_STEPS = 20


class Trainer:
    """The part of one process in a run: a network, its averages, its optimiser and its position in the data.

    Args:
        seeds: the seeds of the run; by default those of one that begins.
        initial: whether the run begins, with the weights that the recipe names; it is false if `load` comes next.

    Attributes:
        step, skipped: the number of optimiser steps so far, and of those whose gradient was not finite, nor applied.
        ema: the average, which is served.
        precision: the number format of the network's calls.

    Raises RecipeError if the checkpoint to begin from cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        batches: Batches,
        device: torch.device | str = "cpu",
        processes: Processes = ALONE,
        *,
        seeds: Seeds | None = None,
        initial: bool = True,
    ) -> None:
        check_parts(recipe, processes)
        self.seeds = seeds_of(recipe) if seeds is None else seeds
        torch.manual_seed(self.seeds.of("weights"))
        self.recipe = recipe
        self.batches = batches
        self.device = torch.device(device)
        self.processes = processes
        self.schedule = recipe.schedule.build()
        network = build_network(recipe.network)
        if recipe.init and initial:
            take_over(network, recipe)
        self.network = move(network, self.device)
        self._wrapped = processes.wrap(self.network)
        called = self._wrapped if recipe.trains_classifier else denoiser_of(self._wrapped, None, self.schedule)
        # Fused kernels train 1.7 times as fast on a CPU; the state stays that of the plain network.
        self._forward = compiled(called) if recipe.compile else called
        self.ema = Ema(self.network, recipe.ema_decay)
        self._objective, self._timesteps = objective_of(recipe, self.schedule), timesteps_of(recipe, self.schedule)
        self._augment = augment_of(recipe.data.augment)
        self.optimizers = optimizers_of(recipe, self.network)
        self._rates = [*map(rates_of, self.optimizers)]  # those of this recipe, also if the run goes on from another's
        distils, classes = recipe.loss == "distillation", batches.dataset.classes
        self._teacher = Teacher(recipe, classes, self.device) if distils else None
        self._draws = Draws(recipe, self.seeds, self.device)
        self.precision = format_of(recipe.precision, self.network, self.device)
        torch.manual_seed(self.seeds.of(f"dropout of process {processes.rank}"))
        self.step = 0
        self.skipped = 0
        self._bad_in_a_row = 0

    @property
    def parameters(self) -> int:
        """The number of the network's parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def steps(self) -> Iterator[StepFacts]:
        """Trains until `max_steps`, yielding the facts of each step; raises Diverged after many gradients that are not
        finite.
        """
        batches = iter(self.batches)
        # The step is counted before a batch is taken: one taken in vain would be missing from a longer run.
        while self.step < self.recipe.max_steps:
            yield self._train(next(batches))

    def _train(self, batch: Batch) -> StepFacts:
        recipe = self.recipe
        drawn = self._draws.next(self._timesteps)
        mine = drawn.part(self.processes.share(recipe.batch_size))
        size = len(mine.t) // recipe.accumulate
        losses = []
        for first in range(0, len(mine.t), size):
            rows = slice(first, first + size)
            with unsynchronised(self._wrapped, first + size < len(mine.t)):
                losses.append(self._backward(batch, mine, rows))
        for optimizer in self.optimizers:
            if isinstance(optimizer, MatrixMuon):
                optimizer.take_gradients()
        most = recipe.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), most)
        if torch.isfinite(norm):
            self._bad_in_a_row = 0
            for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
                with code_of(recipe.optimizer, "take a step"):
                    step(optimizer, rates, rate_factor(recipe, self.step))
            self.ema.update(self.network)
        else:
            self._skip()
        self._forget_gradients()
        self.step += 1
        of_all = Losses(*self.processes.gather(torch.cat([torch.stack(part) for part in losses], dim=1)).cpu())
        return StepFacts(of_all.loss.mean(), of_all.error, drawn.t, norm.detach().cpu(), of_all.vlb, of_all.correct)

    def _backward(self, batch: Batch, drawn: Drawn, rows: slice) -> Losses:
        """Adds the gradient of some of a batch's images."""
        x0, inputs = network_inputs(self.recipe, batch, drawn, rows, self.device, augment=self._augment)
        extra: tuple[Any, ...] = ()
        if self.recipe.trains_classifier:
            extra = (inputs.pop("labels"),)
        elif self._teacher is not None:
            extra = (self._with_inputs(self._teacher, inputs),)
        part = drawn.part(rows)
        noise = part.noise if batch.noise is None else batch.noise[rows].to(self.device)
        losses = self._objective(self._with_inputs(self._forward, inputs), x0, part.t, noise, *extra)
        torch.autograd.backward(losses.loss.mean() / self.recipe.accumulate)
        return Losses(*(values.detach() for values in losses))

    def _with_inputs(self, call: Callable[..., Tensor], inputs: dict[str, Tensor]) -> Network:
        """Returns a network with fixed further arguments."""

        def network(x_t: Tensor, t: Tensor) -> Tensor:
            with autocast(self.precision, self.device):
                out = call(x_t, t.to(self.device), **inputs)
            return out.float()

        return network

    def blank(self, count: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Returns arguments of a call with so many blank images, to measure its cost."""
        recipe, shape = self.recipe, self.recipe.shown_shape
        x_t = torch.zeros(count, *shape, device=self.device)
        t = torch.zeros(count, dtype=torch.int64, device=self.device)
        inputs = {} if recipe.num_classes is None or recipe.trains_classifier else {"labels": t}
        if size := vector_size(recipe.all_conditions):
            inputs["vector"] = x_t.new_zeros(count, size)
        if planes := plane_count(recipe.all_conditions):
            inputs["planes"] = x_t.new_zeros(count, planes, *shape[1:])
        for each in sequences_in(recipe.conditions).values():
            inputs["sequence"] = x_t.new_zeros(count, each.most, each.width)
            inputs["sequence_mask"] = torch.ones(count, each.most, dtype=torch.bool, device=self.device)
        return x_t, t, inputs

    def _forget_gradients(self) -> None:
        self.network.zero_grad(set_to_none=True)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _skip(self) -> None:
        """A gradient of NaN or infinity is not applied; many in a row mean that the run is lost."""
        self.skipped += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MAX_BAD_STEPS:
            raise Diverged(f"{MAX_BAD_STEPS} gradients in a row were not finite: lower the learning rate")

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to continue exactly. All processes must ask for it together."""
        dropout = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            dropout["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "seeds": self.seeds._asdict(),
            "step": self.step,
            "skipped": self.skipped,
            "bad_in_a_row": self._bad_in_a_row,
            "position": self.batches.position,
            "network": self.network.state_dict(),
            "ema": {"updates": self.ema.updates, "network": self.ema.network.state_dict()},
            "optimizers": [state_of(optimizer, self.recipe.optimizer) for optimizer in self.optimizers],
            "precision": self.precision,
            "draws": self._draws.state(),
            "dropout": self.processes.gather_states(dropout),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continues from a state of the same recipe, saved by any number of processes."""
        self.step, self.skipped, self._bad_in_a_row = state["step"], state["skipped"], state["bad_in_a_row"]
        self.batches.position = state["position"]
        self.network.load_state_dict(state["network"])
        self.ema.updates = state["ema"]["updates"]
        self.ema.network.load_state_dict(state["ema"]["network"])
        with code_of(self.recipe.optimizer, "be resumed"):
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        if self.recipe.precision == "auto":
            self.precision = state["precision"]
        self._draws.load(state["draws"])
        if self.processes.rank < len(state["dropout"]):
            dropout = state["dropout"][self.processes.rank]
            torch.set_rng_state(dropout["cpu"])
            if self.device.type == "cuda" and "cuda" in dropout:
                torch.cuda.set_rng_state(dropout["cuda"], self.device)


def check_parts(recipe: Recipe, processes: Processes) -> None:
    """Raises RecipeError unless each batch can be cut into equal parts for all processes."""
    parts = processes.count * recipe.accumulate
    if recipe.batch_size % parts:
        raise RecipeError(f"batch_size {recipe.batch_size} cannot be cut into {parts} equal parts")


def learning_rate(recipe: Recipe, step: int) -> float:
    """Returns the learning rate of a step."""
    return recipe.learning_rate * rate_factor(recipe, step)


def rate_factor(recipe: Recipe, step: int) -> float:
    """Returns the factor of the learning rates: it rises linearly over the warm-up, stays, and falls at the end."""
    warmup = (step + 1) / max(1, recipe.warmup_steps)
    decay = (recipe.max_steps - step) / recipe.decay_steps if recipe.decay_steps else 1.0
    return min(1.0, warmup, decay)
