"""A student learns what its guided teacher says, at each timestep or after several steps of DDIM."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from difuso.model import NoiseSchedule, load_checkpoint, make_plan, save_checkpoint
from difuso.model.folders.config import ModelConfig
from difuso.model.network_inputs import inputs_of
from difuso.model.networks.build import build_network
from difuso.model.noise import q_sample
from difuso.model.plans.plan import Column, Plan, Prediction
from difuso.model.sampling import sample
from difuso.training.data.batches import Batches
from difuso.training.data.dataset import Dataset
from difuso.training.errors import RecipeError
from difuso.training.objective.distillation import Distillation, Teacher
from difuso.training.objective.objectives import listed
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.run import train
from difuso.training.run.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = NoiseSchedule.cosine(1000)
CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
TINY = (
    *("image_size=8", "batch_size=20", "precision=float32", "warmup_steps=1", "max_steps=200", "prediction=v"),
    *("network.channels=8", "network.channel_mult=[1]", "network.groups=4", "network.head_channels=8"),
    *("schedule.type=cosine", "weighting=uniform", "learning_rate=0.003"),
    *("defaults.sampler=ddim", "defaults.steps=4", "defaults.spacing=trailing"),
)
LABELLED = ("data.source=npz", "data.path=none", "network.num_classes=5", "label_drop=0.5")


def recipe(*changes: str) -> Recipe:
    return load_recipe("smoke", [*TINY, *changes])


def student(teacher: Path, *changes: str) -> Recipe:
    return recipe("loss=distillation", f"init={teacher}", *changes)


def network(config: ModelConfig, seed: int) -> nn.Module:
    """A network of random numbers everywhere, also where training begins at zero."""
    generator = torch.Generator().manual_seed(seed)
    made = build_network(config.network).eval().requires_grad_(False)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return made


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A teacher with classes."""
    config = recipe(*LABELLED).model_config({})
    save_checkpoint(tmp_path / "labelled", config, network(config, 0), dtype=torch.float32)
    return tmp_path / "labelled"


@pytest.fixture
def with_weaker(tmp_path: Path) -> Path:
    """A teacher with a weaker network, guided by 1.5 unless a request says otherwise."""
    config = recipe().model_config({})
    config = replace(config, weaker=config.network, defaults=replace(config.defaults, guidance_scale=1.5))
    save_checkpoint(tmp_path / "w", config, network(config, 0), weaker=network(config, 1), dtype=torch.float32)
    return tmp_path / "w"


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """x0, t and noise."""
    x0, noise = torch.randn((2, 4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    return x0.clamp(-1, 1), torch.tensor([999, 249, 749, 499]), noise


def test_the_teacher_is_guided_away_from_what_it_says_without_a_label(labelled: Path) -> None:
    """Ho & Salimans 2022, eq. 6, with w = 2.5 in place of 1 + w; without a label there is nothing to lead away from."""
    teacher = Teacher(student(labelled, *LABELLED, "guidance_scale=2.5"), tuple("abcde"), CPU)
    plain = load_checkpoint(labelled).network
    x, t, _ = batch()
    labels = torch.tensor([0, 3, 4, 5])
    out, base = plain(x, t, labels=labels), plain(x, t, labels=torch.full((4,), 5))
    assert (out[:3] - base[:3]).abs().max() > 0.01
    assert torch.allclose(teacher(x, t, labels=labels), base + 2.5 * (out - base), atol=1e-6)


def test_the_teacher_is_guided_away_from_what_it_says_without_all_that_may_be_left_out(tmp_path: Path) -> None:
    """It always needs the hair, and so its base gets the hair too."""
    given = ("conditions.glasses.type=choice", "conditions.glasses.null=true", "conditions.hair.type=choice")
    config = recipe(*given, "condition_drop=0.1").model_config({})
    save_checkpoint(tmp_path / "conditional", config, network(config, 0), dtype=torch.float32)
    teacher = Teacher(student(tmp_path / "conditional", *given, "condition_drop=0.1", "guidance_scale=2.5"), None, CPU)
    x, t, _ = batch()
    hair = [{"hair": "long"}, {"hair": "bald"}] * 2
    vector, base_vector = (
        inputs_of(config.conditions, each, (8, 8))["vector"]
        for each in ([{**one, "glasses": "round"} for one in hair], hair)
    )
    plain = load_checkpoint(tmp_path / "conditional").network
    out, base = plain(x, t, vector=vector), plain(x, t, vector=base_vector)
    assert (out - base).abs().max() > 0.01
    assert torch.allclose(teacher(x, t, vector=vector), base + 2.5 * (out - base), atol=1e-6)


def test_a_teacher_of_a_flow_is_called_on_its_path(tmp_path: Path) -> None:
    flow = (*LABELLED, "schedule.type=flow", "prediction=flow")
    config = recipe(*flow).model_config({})
    save_checkpoint(tmp_path / "flow", config, network(config, 0), dtype=torch.float32)
    teacher = Teacher(student(tmp_path / "flow", *flow, "guidance_scale=2.5"), tuple("abcde"), CPU)
    denoiser = load_checkpoint(tmp_path / "flow").denoiser
    x, t, _ = batch()
    labels = torch.tensor([0, 3, 4, 1])
    out, base = denoiser(x, t, labels=labels), denoiser(x, t, labels=torch.full((4,), 5))
    assert torch.allclose(teacher(x, t, labels=labels), base + 2.5 * (out - base), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "scale"), [((), 1.5), (("guidance_scale=3.0",), 3.0), (("guidance_scale=1.0",), 1.0)]
)
def test_the_scale_is_the_teachers_unless_the_recipe_names_one(
    with_weaker: Path, given: tuple[str, ...], scale: float
) -> None:
    checkpoint = load_checkpoint(with_weaker)
    teacher = Teacher(student(with_weaker, "teacher_calls=2", *given), None, CPU)
    x, t, _ = batch()
    assert checkpoint.weaker is not None
    out, base = checkpoint.network(x, t), checkpoint.weaker(x, t)
    assert torch.allclose(teacher(x, t), base + scale * (out - base), atol=1e-6)


def test_the_teacher_is_guided_within_the_interval_only(with_weaker: Path) -> None:
    checkpoint = load_checkpoint(with_weaker)
    x, t, _ = batch()
    sigmas = SCHEDULE.sigmas[t.numpy()]  # of 999, 249, 749, 499: 20291, 0.41, 2.4 and 1
    low, high = 0.5, float(sigmas[2])  # which belongs to it
    limits = ("guidance_scale=3.0", f"guidance_low={low}", f"guidance_high={high}")
    teacher = Teacher(student(with_weaker, *limits), None, CPU)
    assert checkpoint.weaker is not None
    out, base = checkpoint.network(x, t), checkpoint.weaker(x, t)
    expected = torch.where(torch.tensor([False, False, True, True]).view(-1, 1, 1, 1), base + 3 * (out - base), out)
    assert (expected - out)[2:].abs().max() > 0.01
    assert torch.allclose(teacher(x, t), expected, atol=1e-6)
    assert torch.equal(teacher(x[:2], t[:2]), checkpoint.network(x[:2], t[:2]))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("guidance_low=3.0", "guidance_high=1.0"), "guidance_high must be greater than guidance_low, 3"),
        (("guidance_low=nan",), "guidance_low must lie between 0 and 1e"),
        (("guidance_scale=1.0", "guidance_low=0.5"), "guidance_low needs a guidance_scale other than 1"),
        (("guidance_low=1e5",), "no timestep has a sigma between guidance_low and guidance_high"),
    ],
)
def test_an_interval_that_teaches_nothing_is_refused(with_weaker: Path, asked: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Teacher(student(with_weaker, *asked), None, CPU)


@pytest.mark.parametrize(("calls", "prediction"), [(2, "v"), (4, "x0"), (2, "flow")])
def test_a_student_without_error_arrives_where_the_teachers_steps_do(prediction: Prediction, calls: int) -> None:
    """The oracle is the plain loop over the part of the teacher's plan that one step of the student replaces."""

    def teacher(x_t: Tensor, t: Tensor) -> Tensor:
        return 0.4 * torch.tanh(x_t.roll(1, -1)) - 1e-4 * t.view(-1, 1, 1, 1)

    mine, others = (
        make_plan(SCHEDULE, sampler="ddim", spacing="trailing", prediction=prediction, clip="none", steps=steps)
        for steps in (4, 4 * calls)
    )
    x0, t, noise = batch()
    x0, noise = x0.double(), noise.double()
    x_t = q_sample(SCHEDULE, x0, t, noise)
    for i, first in enumerate(mine.timesteps.index(timestep) for timestep in t.tolist()):
        start, row = x_t[i : i + 1], mine.table[first]
        run: dict[str, Any] = {"shape": (3, 8, 8), "seeds": [0], "noise": start, "dtype": torch.float64}
        arrived = sample(_part(others, calls * first, calls), teacher, **run)
        given = ((arrived - row[Column.A] * start) / row[Column.B] - row[Column.X0_X] * start) / row[Column.X0_OUT]

        def perfect(x: Tensor, t: Tensor, given: Tensor = given) -> Tensor:
            return given

        assert torch.allclose(sample(_part(mine, first, 1), perfect, **run), arrived, rtol=0, atol=1e-9)
        one = slice(i, i + 1)
        exact = Distillation(SCHEDULE, (mine, others))(perfect, x0[one], t[one], noise[one], teacher)
        assert float(exact.loss) < 1e-18


def _part(plan: Plan, first: int, count: int) -> Plan:
    rows = slice(first, first + count)
    return Plan(plan.timesteps[rows], plan.table[rows].copy())


def test_only_the_timesteps_of_the_students_plan_are_drawn() -> None:
    plan = make_plan(SCHEDULE, sampler="ddim", spacing="trailing", steps=4)
    t = listed(4000, torch.Generator().manual_seed(0), timesteps=plan.timesteps)
    counts = Counter(t.tolist())
    assert sorted(counts) == [249, 499, 749, 999]
    assert min(counts.values()) > 900  # of 1,000 expected; the standard deviation is 27


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("teacher_calls=2",)])
def test_a_student_learns_its_teachers_guidance(with_weaker: Path, more: tuple[str, ...]) -> None:
    """It begins as the unguided teacher, and comes nearer to the guided one."""
    taught = student(with_weaker, "guidance_scale=3.0", *more)
    trainer = Trainer(taught, Batches(Dataset(IMAGES, None, None), taught.batch_size, seed=0))
    losses = [float(facts.loss) for facts in islice(trainer.steps(), 200)]
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:3])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("network.channels=16",), "needs the network of the teacher"),
        (("schedule.type=linear",), "needs the schedule of the teacher"),
        (("prediction=x0",), "needs the prediction of the teacher"),
        (("init=nowhere",), "init = 'nowhere'"),
    ],
)
def test_a_teacher_that_differs_is_refused(with_weaker: Path, changes: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Teacher(student(with_weaker, *changes), None, CPU)


def test_guidance_without_anything_to_guide_by_is_refused(tmp_path: Path) -> None:
    config = recipe().model_config({})
    save_checkpoint(tmp_path / "plain", config, network(config, 0))
    with pytest.raises(RecipeError, match="guidance_scale must be 1"):
        Teacher(student(tmp_path / "plain", "guidance_scale=2.0"), None, CPU)


@pytest.mark.parametrize(
    ("asked", "fits"),
    [((), False), (("teacher_calls=2",), False), (("teacher_calls=2", "defaults.steps=2"), True)],
    ids=str,
)
def test_a_student_of_few_steps_teaches_the_steps_that_it_learned(
    tmp_path: Path, asked: tuple[str, ...], fits: bool
) -> None:
    record = {"recipe": {"teacher_calls": 2}}
    config = replace(recipe().model_config({}), training=record)
    save_checkpoint(tmp_path / "four", config, network(config, 0))
    with nullcontext() if fits else pytest.raises(RecipeError, match="in 4 steps and knows no others"):
        Teacher(student(tmp_path / "four", *(asked or ("guidance_scale=2.0",))), None, CPU)


def test_a_teacher_that_has_nothing_to_teach_is_refused(labelled: Path) -> None:
    """Guidance by labels is off by default, so the student would be its teacher from the first step on."""
    with pytest.raises(RecipeError, match="already says"):
        Teacher(student(labelled, *LABELLED), tuple("abcde"), CPU)


@pytest.mark.parametrize(("images", "fits"), [("edcba", False), ("abcde", True), ("01234", True)])
def test_the_classes_of_the_images_are_the_teachers(tmp_path: Path, images: str, fits: bool) -> None:
    """Or else each request for a class would get another one."""
    config = replace(recipe(*LABELLED).model_config({}), classes=tuple("abcde"))
    save_checkpoint(tmp_path / "named", config, network(config, 0))
    made = student(tmp_path / "named", *LABELLED, "guidance_scale=2.0")
    with nullcontext() if fits else pytest.raises(RecipeError, match="have the classes e, d, c, b, a, but the teacher"):
        Teacher(made, tuple(images), CPU)


def test_the_teacher_is_checked_before_images_are_read(tmp_path: Path) -> None:
    made = student(tmp_path / "nowhere", "data.source=npz", "data.path=none")
    with pytest.raises(RecipeError, match="init = "):
        train(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_teacher(with_weaker: Path) -> None:
    """Or else a second student in the folder of the first would be said to be trained, without one step."""
    first = student(with_weaker, "teacher_calls=2", "defaults.steps=8")
    earlier = json.loads(json.dumps(first.as_json))
    replace(first, max_steps=300).check_continues(earlier)
    for second, key in (
        (student(with_weaker, "teacher_calls=2", "defaults.steps=4"), "defaults"),
        (student(with_weaker.parent / "run", "teacher_calls=2", "defaults.steps=8"), "init"),
        (student(with_weaker, "teacher_calls=4", "defaults.steps=8"), "teacher_calls"),
    ):
        with pytest.raises(RecipeError, match=f"a run with another {key}"):
            second.check_continues(earlier)
