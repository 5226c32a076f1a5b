"""`difuso models --check`: measures what workers and training need of a network, whoever wrote it."""

import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import typer
from torch import Tensor, nn

from difuso.model import Checkpoint, load_checkpoint
from difuso.model.conditions import sequences_in
from difuso.model.errors import ModelError
from difuso.model.networks.build import build_network
from difuso.model.networks.preconditioned import denoiser_of
from difuso.worker.device.calls import example_batch
from difuso.worker.engine.models import make_runner
from difuso.worker.settings import WorkerSettings
from difuso.worker.stepping.runner import pick_device

from ..errors import user_errors
from ..models_folder import find_model, models_folder
from ..terminal import printable

IMAGES = 2  # in the calls that are not timed


class Finding(NamedTuple):
    """One result."""

    state: str  # `ok`; `note` for what works at a price; `fails` for what must be mended
    text: str  # the result, for people


@user_errors()
def check_model(name: str, settings: WorkerSettings) -> bool:
    """Loads a model, calls its network in every way that workers and training do, and prints the results.

    It returns True if nothing fails.

    Raises UserError if there is no such model, or it cannot be loaded.
    """
    info = find_model(name, models_folder(settings))
    with user_errors(info.name):
        checkpoint = load_checkpoint(info.path, networks=settings.networks)
    typer.echo(
        printable(
            f"{info.name}: {info.parameters:,} weights, called with {', '.join(('x', 't', *info.config.input_names))}"
        )
    )
    fine = True
    for check in (_outputs, _conditions, _batches, _gradients):
        try:
            for finding in check(checkpoint, settings):
                fine = fine and finding.state != "fails"
                typer.echo(printable(f"{finding.state:6}{finding.text}"))
        except ModelError as error:
            fine = False
            if error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            typer.echo(printable(f"{'fails':6}{error}"))
            break  # what follows would fail in the same way
    return fine


def _outputs(checkpoint: Checkpoint, settings: WorkerSettings) -> Iterator[Finding]:
    call, batch = _call(checkpoint, settings)
    before = {name: each.clone() for name, each in checkpoint.network.named_parameters()}
    out = call(batch)
    after = dict(checkpoint.network.named_parameters())
    if changed := [name for name, each in before.items() if name not in after or not torch.equal(after[name], each)]:
        yield Finding(
            "fails", f"a call changes {changed[0]}, which workers prepare once: call torch.nn.functional with its value"
        )
    yield Finding("ok", f"an output of shape {tuple(out.shape)}, {str(out.dtype).removeprefix('torch.')}")
    if not torch.isfinite(out).all():
        yield Finding("fails", "the output has NaN or infinity")
    elif torch.equal(out, call(batch)):
        yield Finding("ok", "the same call gives the same bits again")
    else:
        yield Finding("fails", "the same call gives other bits again: leave out what draws or changes in eval mode")


def _conditions(checkpoint: Checkpoint, settings: WorkerSettings) -> Iterator[Finding]:
    """Changes one argument after the other, and tries labels that the config allows."""
    call, batch = _call(checkpoint, settings)
    out, classes = call(batch), checkpoint.config.classes
    changed = {name: value + 1 for name, value in batch.items() if name not in ("x", "labels", "sequence_mask")}
    for name, sequence in sequences_in(checkpoint.config.conditions).items():
        # A normalisation of each vector would undo an addition.
        changed |= {"sequence": -batch["sequence"], "sequence_mask": torch.ones_like(batch["sequence_mask"])}
        nothing = {each: torch.zeros_like(batch[each]) for each in ("sequence", "sequence_mask")}
        if sequence.null and not torch.isfinite(call(batch | nothing)).all():
            yield Finding("fails", f"without {name} the output has NaN or infinity: sequence_mask is false everywhere")
    if classes is not None:
        changed["labels"] = torch.full_like(batch["labels"], len(classes) - 1)
        if checkpoint.config.network.null_class:
            without = call({**batch, "labels": torch.full_like(batch["labels"], len(classes))})
            differs = "" if not torch.equal(out, without) else ", with the output of class 0"
            yield Finding(
                "note" if differs else "ok", f"it can be called without a class, as label {len(classes)}{differs}"
            )
    for name, value in changed.items():
        if torch.equal(out, call({**batch, name: value})):
            yield Finding("note", f"another {name} changes nothing: is it used, and are the weights trained?")
        else:
            yield Finding("ok", f"it heeds {name}")


def _batches(checkpoint: Checkpoint, settings: WorkerSettings) -> Iterator[Finding]:
    runner = make_runner(checkpoint, settings, device=pick_device(settings.device))
    sizes, milliseconds = ", ".join(map(str, runner.buckets)), 1000 * runner.step_seconds
    if not settings.exact:
        yield Finding(
            "note", f"batches of {sizes} are used without a comparison of bits, because DIFUSO_EXACT is false"
        )
    elif runner.buckets == (1,):
        yield Finding("note", "an image gets other bits in any larger batch, so that images are drawn one at a time")
    else:
        yield Finding("ok", f"an image has the same bits in batches of {sizes}, wherever it is; others are filled up")
    if runner.buckets[0] > 1:
        yield Finding("note", f"a lone image takes the time of {runner.buckets[0]}, because alone it gets other bits")
    rate = f"{runner.rate:.0f} image-steps/s in batches of {runner.buckets[-1]}"
    yield Finding("ok", f"{rate}, {milliseconds:.1f} ms a step of one image, on {runner.device}")


def _gradients(checkpoint: Checkpoint, settings: WorkerSettings) -> Iterator[Finding]:
    """Trains nothing, but calls a network with fresh weights as training does, where timesteps are whole."""
    network = build_network(checkpoint.config.network).train()
    called = denoiser_of(network, checkpoint.config.preconditioning, checkpoint.schedule)
    x, t, inputs = example_batch(checkpoint.config, IMAGES)
    with torch.random.fork_rng():  # dropout
        called(x, t.long(), **inputs).float().square().mean().backward()
    wanted = [name for name, each in network.named_parameters() if each.requires_grad]
    gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    if bad := [name for name, each in gradients.items() if not torch.isfinite(each).all()]:
        yield Finding("fails", f"training: the gradient of {bad[0]} has NaN or infinity")
    elif missing := [name for name in wanted if name not in gradients]:
        yield Finding(
            "note", f"training: {len(missing)} of {len(wanted)} tensors get no gradient, such as {missing[0]}"
        )
    else:
        yield Finding("ok", f"training: all {len(wanted)} tensors get a gradient")


def _call(
    checkpoint: Checkpoint, settings: WorkerSettings
) -> tuple[Callable[[dict[str, Tensor]], Tensor], dict[str, Tensor]]:
    """Returns the denoiser as a function of its arguments by name, and a batch of arguments."""
    device = pick_device(settings.device)
    denoiser: nn.Module = checkpoint.denoiser.to(device)
    x, t, inputs = example_batch(checkpoint.config, IMAGES)
    batch = {"x": x, "t": t, **inputs}

    @torch.inference_mode()
    def call(batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = denoiser(**{name: value.to(device) for name, value in batch.items()}).cpu()
        return out

    return call, batch
