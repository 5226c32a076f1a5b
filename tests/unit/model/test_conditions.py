"""A model declares its conditions, and its network sees exactly those."""

import dataclasses
import json
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.model.conditions import (
    Choice,
    Condition,
    Image,
    ImageMap,
    Number,
    Vector,
    VectorSequence,
    plane_count,
    vector_size,
)
from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.network_inputs import Column, column, inputs_of, inputs_of_columns, without_optional
from difuso.model.networks.configs import ForeignConfig, UNetConfig
from difuso.model.networks.unet import UNet
from tests.small_models import CONDITION, CONDITIONAL, NETWORK, awake

FACE: dict[str, Condition] = {
    "style": Vector(2, null=True),
    "glasses": Choice(("none", "round", "square"), null=True),
    "age": Number(20, 60, "years", null=True),
}
SCENE: dict[str, Condition] = {
    "sketch": Image(1, (2, 4), null=True),
    "layout": ImageMap(("sky", "road", "tree"), null=True),
}
SEEING = UNetConfig(**NETWORK, vector_size=9, condition_channels=5)
MODEL = ModelConfig(SEEING, image_size=8, conditions=FACE | SCENE)


def face_vectors(*faces: dict[str, Any]) -> Tensor:
    columns = {name: column(FACE[name], [face.get(name) for face in faces]) for name in FACE}
    return inputs_of_columns(FACE, columns, (1, 1))["vector"]


def test_the_vector_is_each_condition_by_name_with_a_flag_where_it_is_absent() -> None:
    vectors = face_vectors(
        {"age": 50.0, "glasses": "square", "style": (0.25, -3.0)}, {"age": 20.0, "glasses": "none"}, {}
    )
    assert vectors.tolist() == [
        # age, not; none, round, square, not; style, style, not
        [0.5, 0, 0, 0, 1, 0, 0.25, -3, 0],
        [-1, 0, 1, 0, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 0, 1, 0, 0, 1],
    ]
    assert vectors.shape[1] == vector_size(FACE) == 9


def test_the_value_of_an_absent_condition_has_no_effect() -> None:
    given = torch.tensor([True, False])
    columns = {
        "age": Column(torch.tensor([50.0, 33.0]), given),
        "glasses": Column(torch.tensor([2, 1]), given),
        "style": Column(torch.tensor([[0.25, -3.0], [7.0, 7.0]]), given),
    }
    first = {"age": 50.0, "glasses": "square", "style": (0.25, -3.0)}
    assert torch.equal(inputs_of_columns(FACE, columns, (1, 1))["vector"], face_vectors(first, {}))


def test_planes_are_one_for_each_value_of_a_map_and_the_channels_of_an_image() -> None:
    layouts = torch.tensor([[[0, 1], [2, 2]], [[0, 0], [0, 0]]])
    sketches = torch.linspace(-1, 1, 16).view(2, 1, 2, 4)
    columns = {
        "layout": Column(layouts, torch.tensor([True, False])),
        "sketch": Column(sketches, torch.tensor([False, True])),
    }
    planes = inputs_of_columns(SCENE, columns, (2, 4))["planes"]
    assert planes.shape[1] == plane_count(SCENE) == 5
    sky, road, tree = [[1, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 1, 1], [0, 0, 0, 0]], [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert planes[0, :3].tolist() == [sky, road, tree]
    assert not planes[1, :3].any()
    assert not planes[0, 3].any()
    assert bool((planes[0, 4] == 1).all())
    assert torch.equal(planes[1, 3], sketches[1, 0])
    assert not planes[1, 4].any()


@pytest.mark.parametrize(("there", "wanted"), [(2, 6), (6, 2), (5, 3), (3, 8)])
def test_a_map_takes_the_pixel_below_each_centre_as_pillow_does(there: int, wanted: int) -> None:
    from PIL import Image as Pillow

    indices = torch.arange(there * there, dtype=torch.uint8).view(1, there, there) % 3
    columns = {"layout": Column(indices, torch.tensor([True]))}
    planes = inputs_of_columns({"layout": SCENE["layout"]}, columns, (wanted, wanted))["planes"]
    resized = Pillow.fromarray(indices[0].numpy()).resize((wanted, wanted), Pillow.Resampling.NEAREST)
    assert planes.argmax(dim=1)[0].flatten().tolist() == list(resized.tobytes())


TEXT = VectorSequence(2, 3, null=True)
READING = ModelConfig(ForeignConfig(type="lab.nets:Net"), image_size=8, conditions={"text": TEXT})


def test_a_sequence_is_padded_with_zeros_and_its_mask_says_what_is_there() -> None:
    two, three = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(3, 2)
    inputs = inputs_of({"text": TEXT}, [{"text": two}, {}, {"text": three}], (8, 8))
    assert inputs["sequence"].tolist() == [[[1, 2], [3, 4], [0, 0]], [[0, 0]] * 3, [[1, 1]] * 3]
    assert inputs["sequence_mask"].tolist() == [[True, True, False], [False] * 3, [True] * 3]
    lost = column(TEXT, [two, None, three]).without(torch.tensor([True, False, False]))
    assert not inputs_of_columns({"text": TEXT}, {"text": lost}, (8, 8))["sequence_mask"][:2].any()
    left = without_optional({"text": TEXT}, inputs)
    assert not left["sequence"].any()
    assert (left["sequence_mask"].dtype, bool(left["sequence_mask"].any())) == (torch.bool, False)
    needed = {"text": dataclasses.replace(TEXT, null=False)}
    assert torch.equal(without_optional(needed, inputs)["sequence"], inputs["sequence"])


@pytest.mark.parametrize(
    "value",
    [[[1, 2, 3]], [[1, 2]] * 4, [], [1, 2], [[1, 2], [3]], [[1, float("nan")]], [[1, 1e7]], [[1, 1e300]], "text"],
)
def test_what_is_no_sequence_of_the_condition_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^must be 1 to 3 vectors of 2 numbers from -1e\+06 to 1e\+06$"):
        TEXT.array(value)


def test_only_a_network_of_another_package_takes_a_sequence_and_only_one() -> None:
    assert config_from_json(json.loads(json.dumps(config_to_json(READING)))) == READING
    assert READING.input_names == ("sequence", "sequence_mask")
    ours = UNetConfig(**NETWORK)
    for other, message in (
        (dataclasses.replace(READING, network=ours), "conditions.text: only your own network, package.module:Class"),
        (dataclasses.replace(READING, weaker=ours), "conditions.text: only your own network, package.module:Class"),
        (dataclasses.replace(READING, conditions={"a": TEXT, "b": TEXT}), "2 sequences, more than one: a, b"),
    ):
        with pytest.raises(CheckpointError, match=message):
            config_from_json(config_to_json(other))


def test_a_network_sees_its_vector_and_its_planes_whatever_the_size_of_the_batch() -> None:
    network: UNet = awake(UNet(SEEING))
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(5, 3, 8, 8, generator=generator), torch.arange(5) * 100
    vector, planes = torch.randn(5, 9, generator=generator), torch.randn(5, 5, 8, 8, generator=generator)
    with torch.inference_mode():
        out = network(x, t, vector=vector, planes=planes)
        embedded = network.vector_mlp(vector)
        for size in (1, 2, 3, 4):
            assert torch.equal(network.vector_mlp(vector[:size]), embedded[:size])
        for changed in ({"vector": -vector}, {"planes": -planes}):
            other = network(x, t, **{"vector": vector, "planes": planes} | changed)
            assert not torch.allclose(other, out, atol=1e-3)


def test_a_config_with_conditions_survives_json() -> None:
    content = json.loads(json.dumps(config_to_json(MODEL)))
    assert config_from_json(content) == MODEL
    assert content["conditions"]["age"] == {"type": "number", "null": True, "low": 20, "high": 60, "unit": "years"}
    assert MODEL.input_names == ("vector", "planes")
    assert list(MODEL.declared) == ["style", "glasses", "age", "sketch", "layout"]


def test_examples_survive_json_and_are_refused_where_classes_are() -> None:
    model = dataclasses.replace(MODEL, examples={"age": (20.0, 33.5), "glasses": ("none", "square")})
    assert config_from_json(json.loads(json.dumps(config_to_json(model)))) == model
    classes = dataclasses.replace(SEEING, num_classes=2)
    with pytest.raises(CheckpointError, match="examples must be left out for a model with classes"):
        config_from_json(config_to_json(dataclasses.replace(model, network=classes, classes=("cat", "dog"))))


def test_what_was_never_seen_together_survives_json_and_may_be_one_value() -> None:
    conditions = {**FACE, "hat": Choice(("none", "cap"), null=True)}
    network = dataclasses.replace(SEEING, vector_size=12, condition_channels=0)
    model = ModelConfig(network, conditions=conditions, never=({"glasses": ("round", "square"), "hat": ("cap",)},))
    content = json.loads(json.dumps(config_to_json(model)))
    assert config_from_json(content) == model
    assert config_from_json(content | {"never": [{"glasses": ["round", "square"], "hat": "cap"}]}) == model
    assert "never" not in config_to_json(MODEL)
    examples = {"hat": ["none", "cap"], "glasses": ["round", "square"]}
    with pytest.raises(CheckpointError, match="contradict each other: glasses square with hat cap is among the examp"):
        config_from_json(content | {"examples": examples})


def test_classes_and_the_image_of_an_upscaler_are_two_conditions() -> None:
    network = dataclasses.replace(CONDITIONAL, num_classes=2, null_class=False, condition_channels=6, vector_size=3)
    model = ModelConfig(
        network,
        image_size=16,
        classes=("cat", "dog"),
        condition=CONDITION,
        conditions={"fur": Choice(("short", "long")), "layout": ImageMap(("in", "out", "edge"))},
    )
    assert config_from_json(config_to_json(model)) == model
    assert model.declared["label"] == Choice(("cat", "dog"), null=False)
    assert model.declared["image"] == Image(3, 8)
    assert list(model.declared) == ["label", "fur", "layout", "image"]
    assert model.input_names == ("labels", "vector", "planes", "level")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("conditions.age.high", 20, "conditions.age: high must be greater than low, 20"),
        ("conditions.age.type", "range", "conditions.age.type must be one of choice, number, vector, map, image"),
        ("conditions.age", 3, "conditions must be a table of tables"),
        ("conditions.Age", {"type": "number"}, "a name has up to 32 small letters, digits and _, unlike 'Age'"),
        ("conditions.label", {"type": "choice", "values": ["a", "b"]}, "conditions.label: .* `classes`"),
        ("conditions.image", {"type": "image"}, "conditions.image: .* `condition`"),
        ("conditions.glasses.values", ["a", "a"], "conditions.glasses: values must be at least 1 different names"),
        ("conditions.style.size", 3, "network.vector_size must be 10, as `conditions` have it, got 9"),
        ("conditions.sketch.channels", 2, "conditions.sketch: channels must be 1 or 3"),
        ("conditions.layout.values", ["a", "b"], "condition_channels must be 4, as `conditions` have planes, got 5"),
        ("examples", {"glasses": ["oval"]}, "examples.glasses: each must be one of none, round, square"),
        ("examples", {"age": [61]}, "examples.age: each must be a number from 20 to 60 years"),
        ("examples", {"age": [30] * 8193}, "examples.age must have 1 to 8192 values"),
        ("examples", {"age": [30], "glasses": ["none", "none"]}, "examples: all conditions must have equally many"),
        ("examples", {"style": [[0, 0]]}, "examples.style must be left out: examples are of choices"),
        ("examples", {"age": 30}, "examples must be a table of lists"),
        ("never", {"glasses": "round"}, "never must be a list of tables, such as"),
        ("never", [{"glasses": "round"}], r"never\[0\] must name two conditions or more"),
        ("never", [{"glasses": "round", "hat": "cap"}], r"never\[0\].hat is no condition: known are style, glasses"),
        ("never", [{"glasses": "round", "age": 20}], r"never\[0\].age must be left out: it is a number, and no choice"),
        ("never", [{"glasses": ["oval"], "age": 20}], r"never\[0\].glasses: each value must be one of none, round"),
        ("never", [{"glasses": [], "age": 20}], r"never\[0\].glasses must have a value"),
    ],
)
def test_conditions_that_no_network_has_are_refused_by_name(path: str, value: object, message: str) -> None:
    content = json.loads(json.dumps(config_to_json(MODEL)))
    *tables, key = path.split(".")
    place = content
    for table in tables:
        place = place[table]
    place[key] = value
    with pytest.raises(CheckpointError, match=message):
        config_from_json(content)


def test_a_model_has_at_most_32_conditions() -> None:
    many = {f"a{index}": Number() for index in range(33)}
    model = ModelConfig(UNetConfig(**NETWORK, vector_size=66), image_size=8, conditions=many)
    with pytest.raises(CheckpointError, match="conditions must have at most 32 entries"):
        config_from_json(config_to_json(model))


@pytest.mark.parametrize(
    ("condition", "value", "read"),
    [
        (FACE["glasses"], "round", "round"),
        (FACE["age"], "33", 33.0),
        (FACE["age"], 60, 60.0),
        (FACE["style"], "0.5,-1e3", (0.5, -1000.0)),
        (FACE["style"], [1, 2.5], (1.0, 2.5)),
    ],
)
def test_a_value_is_read_as_jobs_hold_it(condition: Condition, value: object, read: object) -> None:
    assert condition.read(value) == read
    assert condition.read(read) == read


WRONG: list[object] = ["oval", 1, None, True, float("nan"), "", [], {}, 1e400, 10**400, "1e400", "0x1", [[]], [1, True]]


@pytest.mark.parametrize("condition", [*FACE.values(), *SCENE.values()], ids=[*FACE, *SCENE])
def test_any_other_value_is_refused_with_what_it_may_be(condition: Condition) -> None:
    for value in WRONG:
        with pytest.raises(ValueError, match=f"^must be {re.escape(condition.expected)}$"):
            condition.read(value)


def test_values_are_described_for_people() -> None:
    assert [condition.expected for condition in (FACE | SCENE).values()] == [
        "a list of 2 numbers from -1e+06 to 1e+06",
        "one of none, round, square",
        "a number from 20 to 60 years",
        "a grey image of 2x4 pixels",
        "a grey image whose pixels are the indices of 0 sky, 1 road, 2 tree",
    ]
