"""A run that was stopped and resumed is the run that was never stopped; and it learns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import Checkpoint, sample, save_checkpoint
from difuso.model.networks.build import build_network
from difuso.model.networks.layers import RowLinear
from difuso.training.calls import compiled, format_of
from difuso.training.data.batches import Batches
from difuso.training.data.dataset import Dataset
from difuso.training.data.images import ImageArray
from difuso.training.errors import Diverged
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.outcomes import ImageModel
from difuso.training.run.processes import ALONE, Processes
from difuso.training.run.state import load_state, save_state
from difuso.training.run.trainer import MAX_BAD_STEPS, Trainer
from tests.states import assert_equal

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = (
    "image_size=8",
    "batch_size=4",
    "precision=float32",
    "warmup_steps=3",
    "network.channels=8",
    "network.channel_mult=[1]",
    "network.groups=4",
    "network.head_channels=8",
    "network.dropout=0.1",  # draws from the generator in every step, so that a resumed run has to restore it
    "data.flip=true",
    "defaults.steps=2",
)
BOUND = ("loss=hybrid", "variance=learned_range", "network.out_channels=6")
CLASSES = ("data.source=npz", "data.path=none", "network.num_classes=5", "label_drop=0.5")


def classifier(guides: Path, *changes: str) -> Recipe:
    """The recipe of a noisy classifier of a model of these five classes, which is saved first."""
    if not guides.exists():
        config = tiny(*CLASSES).model_config({}, tuple("abcde"))
        save_checkpoint(guides, config, build_network(config.network))
    path = guides.with_suffix(".toml")
    network = 'type="classifier"\nchannels=8\nchannel_mult=[1, 2]\nattention_levels=[1]\nhead_channels=8\ngroups=4'
    path.write_text(f"name='c'\nguides='{guides}'\n[network]\n{network}\n[data]\nsource='npz'\npath='x'\nflip=true\n")
    shared = (
        "batch_size=4",
        "precision=float32",
        "warmup_steps=3",
        "weight_decay=0.05",
        "ema_decay=0",
        "max_steps=100",
    )
    return load_recipe(str(path), [*shared, *changes])


def tiny(*changes: str) -> Recipe:
    return load_recipe("smoke", [*TINY, *changes])


NOISE = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
COLOURS = np.broadcast_to(NOISE[:8, :1, :1], (8, 8, 8, 3)).copy()


def trainer(recipe: Recipe, images: ImageArray = NOISE, processes: Processes = ALONE) -> Trainer:
    inputs = recipe.num_classes is not None
    dataset = Dataset(images, np.arange(len(images)) % 5 if inputs else None, tuple("abcde") if inputs else None)
    share = processes.share(recipe.batch_size)
    return Trainer(recipe, Batches(dataset, recipe.batch_size, seed=recipe.seed, share=share), processes=processes)


def run(recipe: Recipe, steps: int, folder: Path | None = None) -> Trainer:
    """Trains a few steps, from the state in a folder if there is one."""
    it = trainer(recipe)
    if folder is not None and (state := load_state(folder)) is not None:
        it.load(state)
    for _ in islice(it.steps(), steps):
        pass
    return it


@pytest.mark.parametrize(
    "changes",
    [
        ("precision=bf16", "optimizer=muon", "timesteps=stratified"),
        ("accumulate=2", "weighting=min_snr"),
        (*CLASSES, "prediction=x0"),
        ("classifier", "precision=bf16"),
        pytest.param((), marks=pytest.mark.slow),
        pytest.param((*BOUND, "schedule.num_train_timesteps=2", "defaults.steps=1"), marks=pytest.mark.slow),
    ],
    ids=["muon", "parts", "classes", "classifier", "plain", "bound"],
)
def test_a_resumed_run_is_bit_equal_to_one_that_never_stopped(tmp_path: Path, changes: tuple[str, ...]) -> None:
    """2 x N steps are N, a resume and N: weights, averages, optimiser, generators, and images over an epoch's end."""
    classifies = changes[:1] == ("classifier",)
    recipe = classifier(tmp_path / "guided", *changes[1:]) if classifies else tiny("max_steps=100", *changes)
    straight = run(recipe, 10)
    half = run(recipe, straight.step // 2)
    save_state(tmp_path, half.state())
    torch.manual_seed(99)  # what other code does to the global generator must not matter
    resumed = run(recipe, straight.step // 2, tmp_path)
    assert_equal(resumed.state(), straight.state())


def test_a_classifier_does_not_get_the_class_and_its_average_of_decay_0_is_itself(tmp_path: Path) -> None:
    it = trainer(classifier(tmp_path / "guided"))
    seen: list[Any] = []
    it.network.register_forward_hook(lambda module, args, out: seen.append(args))
    facts = next(it.steps())
    assert [len(args) for args in seen] == [2]
    assert set(facts.correct.tolist()) <= {0.0, 1.0}
    assert float(facts.loss) == pytest.approx(np.log(5), abs=0.5)
    assert_equal(dict(it.ema.network.state_dict()), dict(it.network.state_dict()))


def test_weight_decay_shrinks_what_no_gradient_moves(tmp_path: Path) -> None:
    """AdamW: without a gradient, weights fall by 1 - rate x decay in each step."""
    it = trainer(classifier(tmp_path / "guided", "learning_rate=0.01", "warmup_steps=0"))
    weight = it.network.get_parameter("pool.positional_embedding")
    before = weight.detach().clone()
    weight.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
    for _ in islice(it.steps(), 3):
        pass
    assert torch.allclose(weight, before * (1 - 0.01 * 0.05) ** 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("channels", "able", "chosen"),
    [
        (64, {"avx512_bf16": True}, "bf16"),
        (32, {"amx_bf16": True}, "bf16"),
        (16, {"avx512_bf16": True}, "float32"),
        (64, {"avx512_bf16": False, "avx512_f": True}, "float32"),
        (64, {"bf16": True}, "float32"),  # on ARM
    ],
)
def test_wide_networks_are_trained_in_bf16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, channels: int, able: dict[str, bool], chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    network = build_network(tiny(f"network.channels={channels}", "network.head_channels=8").network)
    assert format_of("auto", network, torch.device("cpu")) == chosen
    assert format_of("float32", network, torch.device("cpu")) == "float32"


def test_a_run_keeps_its_format_and_a_recipe_can_still_say_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor may be another one on the day of the resume."""
    monkeypatch.setattr(
        "difuso.training.run.trainer.format_of", lambda wanted, *_: "bf16" if wanted == "auto" else wanted
    )
    half = run(tiny("max_steps=100", "precision=auto"), 5)
    save_state(tmp_path, half.state())
    monkeypatch.setattr("difuso.training.run.trainer.format_of", lambda *_: "float32")
    resumed = run(tiny("max_steps=100", "precision=auto"), 5, tmp_path)
    assert resumed.precision == "bf16"
    monkeypatch.undo()
    assert_equal(resumed.state(), run(tiny("max_steps=100", "precision=bf16"), 10).state())
    assert run(tiny("max_steps=100", "precision=float32"), 1, tmp_path).precision == "float32"


@pytest.mark.slow
def test_eight_images_are_learnt_in_less_than_300_steps() -> None:
    """The loss falls to a twentieth of that of a network which predicts nothing."""
    changes = ("network.dropout=0.0", "network.channels=32", "learning_rate=0.004", "batch_size=8", "data.flip=false")
    it = trainer(tiny(*changes, "prediction=eps", "warmup_steps=10", "max_steps=280", "decay_steps=100"), COLOURS)
    losses = [float(step.loss) for step in it.steps()]
    assert np.mean(losses[:5]) == pytest.approx(1.0, abs=0.1)
    assert np.mean(losses[-20:]) < 0.05


@pytest.mark.parametrize("extra", [(), BOUND, CLASSES], ids=["plain", "bound", "classes"])
def test_a_batch_in_parts_is_the_batch_at_once(extra: tuple[str, ...]) -> None:
    """The same images, timesteps and noise; gradients equal up to rounding."""
    whole, parts = (
        run(tiny("network.dropout=0.0", "learning_rate=1e-9", f"accumulate={n}", *extra), 2) for n in (1, 4)
    )
    one, other = (it.optimizers[0].state_dict()["state"] for it in (whole, parts))
    assert one.keys() == other.keys()
    for key in one:
        assert torch.allclose(one[key]["exp_avg"], other[key]["exp_avg"], rtol=1e-4, atol=1e-7)


def test_a_flow_is_trained_on_its_path_and_drawn_as_it_is_served() -> None:
    """Its network is given times 1000 s, shifted, of images less noisy the smaller s; a sheet is the model's images."""
    recipe = tiny("schedule.type=flow", "schedule.shift=3", "prediction=flow", "timesteps=logit_normal")
    it = trainer(recipe)
    seen: list[tuple[torch.Tensor, ...]] = []
    handle = it.network.register_forward_pre_hook(lambda module, args: seen.append(args))
    step = next(it.steps())
    handle.remove()
    ((y, time),) = seen
    s = 3 * (step.t + 1) / (1000 + 2 * (step.t + 1))
    assert torch.allclose(time, 1000 * s.float())
    clearest = int(s.argmin())
    assert float(y[clearest].abs().max()) < 1 + 5 * float(s[clearest])
    config = recipe.model_config({})
    model = Checkpoint("m", config, it.ema.network, config.schedule.build(), "")
    images = sample(config.plan(model.schedule), model.denoiser, shape=config.shape, seeds=[3, 4])
    assert torch.equal(ImageModel(it).samples([3, 4]), images)


def poison(it: Trainer) -> Any:
    """Makes every gradient NaN until the returned handle is removed."""
    return it.network.register_forward_hook(lambda module, args, out: out * float("nan"))


def test_a_step_that_is_not_finite_is_skipped_and_counted_and_many_end_the_run() -> None:
    it = trainer(tiny())
    steps = it.steps()
    next(steps)
    before = {name: tensor.clone() for name, tensor in it.network.state_dict().items()}
    hook = poison(it)
    for _ in range(MAX_BAD_STEPS - 1):
        next(steps)
    assert_equal(dict(it.network.state_dict()), before)
    assert (it.skipped, it.ema.updates) == (MAX_BAD_STEPS - 1, 1)
    hook.remove()
    next(steps)
    assert it.ema.updates == 2
    poison(it)
    with pytest.raises(Diverged, match="lower the learning rate"):
        for _ in steps:
            pass
    assert it.skipped == 2 * MAX_BAD_STEPS - 1


def test_the_average_follows_its_decay() -> None:
    """The closed form: after n steps, the sum of the weights of all steps, each times what later decays left of it."""
    it = trainer(tiny("ema_decay=0.3"))
    history = [it.network.get_parameter("conv_in.weight").detach().clone()]
    for _ in islice(it.steps(), 12):
        history.append(it.network.get_parameter("conv_in.weight").detach().clone())
    decays = [min(0.3, (1 + n) / (10 + n)) for n in range(12)]
    expected = history[0] * float(np.prod(decays))
    for n in range(12):
        expected = expected + history[n + 1] * (1 - decays[n]) * float(np.prod(decays[n + 1 :]))
    assert torch.allclose(it.ema.network.get_parameter("conv_in.weight"), expected, atol=1e-6)


def test_clipping_bounds_the_gradient_and_0_lets_it_be() -> None:
    """Adam's first moment after one step is a tenth of the gradient."""

    def first_moment(clip_norm: float) -> tuple[float, float]:
        it = trainer(tiny(f"clip_norm={clip_norm}"))
        norm = float(next(it.steps()).grad_norm)
        moments = [entry["exp_avg"].square().sum() for entry in it.optimizers[0].state_dict()["state"].values()]
        return norm, 10 * float(torch.stack(moments).sum().sqrt())

    norm, free = first_moment(0)
    assert norm == pytest.approx(free, rel=1e-4)
    assert first_moment(norm / 4) == pytest.approx((norm, norm / 4), rel=1e-4)


@pytest.mark.slow
def test_layers_kept_in_float32_have_gradients_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradient(called: Callable[..., Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            error = called(x).square().mean()
        error.backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        found = layer.weight.grad.clone()
        layer.weight.grad = None
        return found

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **_: torch_compile(network, backend="aot_eager"))
    torch.manual_seed(1)
    layer, x = RowLinear(48, 48), torch.randn(32, 48)
    assert torch.equal(gradient(compiled(layer)), gradient(layer))
