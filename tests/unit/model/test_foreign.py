"""Networks of other packages: named by a config, imported only where they are allowed, and blamed for their faults."""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from difuso.jobs.catalog import read_catalog
from difuso.model.checkpoint import load_checkpoint
from difuso.model.errors import CheckpointError, ForeignError, reason_of
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.foreign.names import check_allowed
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import ForeignConfig
from difuso.worker.device.calls import by_position
from tests.rounding import assert_rounded_alike, layers
from tests.strangers import CANARY, CLASSES, PACKAGE, change, on_the_path, save_model, write_package

NETS = f"{PACKAGE}.nets"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = write_package(tmp_path_factory.mktemp("lab"))
    with on_the_path(folder):
        yield folder


@pytest.fixture
def mine(lab: Path, tmp_path: Path) -> Path:
    save_model(tmp_path / "mine", classes=CLASSES)
    return tmp_path / "mine"


def content(**network: Any) -> dict[str, Any]:
    return {"format": 1, "network": {"type": f"{NETS}:Denoiser", **network}, "schedule": {}, "image_size": 8}


def test_a_config_states_what_is_known_without_the_code() -> None:
    """Of the classes, the model's list says how many the network has."""
    config = config_from_json({**content(args={"width": [8, {"a": None}]}, size_multiple=4), "classes": [*CLASSES]})
    assert isinstance(config.network, ForeignConfig)
    assert (config.network.num_classes, config.network.size_multiple, config.network.in_channels) == (3, 4, 3)
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ({"type": "lab.nets:"}, "'lab.nets:' must be package.module:Name"),
        ({"type": "lab.nets:Net.inner"}, "must be package.module:Name"),
        ({"size_multiple": 3}, "image_size must be a multiple of 3"),
        ({"num_classes": 2}, "classes and the network's num_classes disagree"),
        ({"args": {"text": "x" * 70_000}}, "args must have at most 65536 characters as JSON"),
        ({"width": 8}, "unknown key network.width"),
    ],
)
def test_a_config_that_cannot_be_used_says_why(network: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError) as error:
        config_from_json(content(**network))
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("allowed", "fine"),
    [
        ({"lab"}, True),
        ({"lab.nets"}, True),
        ({"lab.net"}, False),
        ({"lab.nets.deep"}, False),
    ],
)
def test_a_module_is_allowed_with_all_below_it(allowed: set[str], fine: bool) -> None:
    try:
        check_allowed("lab.nets:Net", allowed)
    except CheckpointError:
        assert not fine
    else:
        assert fine


def test_what_is_not_allowed_is_never_imported(mine: Path) -> None:
    """Not by loading the model, nor by a front end, which knows it nevertheless."""
    package = Path(sys.modules[NETS].__file__ or "").parent
    (package / CANARY).unlink()
    del sys.modules[NETS]
    for load in (load_checkpoint, partial(load_checkpoint, networks={"elsewhere"})):
        with pytest.raises(CheckpointError, match=f"not allowed here: if you trust it, set DIFUSO_NETWORKS={NETS}"):
            load(mine)
    info = read_catalog(mine.parent).models["mine"]
    assert info.config.classes == CLASSES
    assert NETS not in sys.modules
    assert not (package / CANARY).exists()
    load_checkpoint(mine, networks={PACKAGE})
    assert (package / CANARY).exists()


def test_the_network_is_the_class_with_the_weights_of_the_file(mine: Path) -> None:
    """Float16 keeps 11 bits; buffers outside of the state, and whole numbers in it, are as the class made them.

    Our layers take the place of PyTorch's, whose sums some processors round in another order; the memory format of the
    network changes no bit.
    """
    loaded = load_checkpoint(mine, networks={NETS}).network
    plain = sys.modules[NETS].Denoiser(classes=len(CLASSES)).eval()
    plain.load_state_dict(loaded.state_dict())
    assert int(plain.made) == 2026
    generator = torch.Generator().manual_seed(0)
    x, t, labels = torch.randn(3, 3, 8, 8, generator=generator), torch.tensor([0.0, 40.5, 999]), torch.tensor([0, 2, 3])
    with torch.inference_mode():
        found = loaded(x, t, labels=labels)
        assert_rounded_alike(found, plain(x, t, labels=labels), steps=layers(plain))
        for format_ in (torch.contiguous_format, torch.channels_last):
            moved = loaded.to(memory_format=format_)  # type: ignore[call-overload]
            assert torch.equal(moved(x.contiguous(memory_format=format_), t, labels=labels), found)


@pytest.mark.processors
def test_the_usual_layers_give_the_same_bits_in_any_batch(lab: Path) -> None:
    """As ours do; and they give what PyTorch's own give, up to rounding."""
    torch.manual_seed(0)
    network = build_network(ForeignConfig(type=f"{NETS}:Plain", size_multiple=2)).eval()
    plain = sys.modules[NETS].Plain().eval()
    plain.load_state_dict(network.state_dict())
    x, t = torch.randn(16, 3, 8, 8), torch.arange(16) * 60.0
    with torch.inference_mode():
        whole = network(x, t)
        assert all(torch.equal(network(x[:size], t[:size]), whole[:size]) for size in range(1, 16))
        assert torch.allclose(whole, plain(x, t), atol=1e-5)


@pytest.mark.processors
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", ["WeightNorm", "SpectralNorm", "Pruned", "Parametrized"])
def test_weights_that_are_made_at_each_call_are_those_of_the_file(lab: Path, tmp_path: Path, kind: str) -> None:
    """Where a network is called as workers do it, too: not those that the class drew when it was built."""
    save_model(tmp_path / "mine", kind)
    torch.manual_seed(1)
    loaded = load_checkpoint(tmp_path / "mine", networks={NETS})
    plain = getattr(sys.modules[NETS], kind)().eval()
    plain.load_state_dict(loaded.network.state_dict())
    call = by_position(loaded, torch.device("cpu"))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([40.0, 900.0])
    with torch.inference_mode():
        assert_rounded_alike(call(x, t), plain(x, t), steps=layers(plain) * 40 * 4 * 4)


def test_a_network_with_weights_of_five_dimensions_is_called_as_its_author_does(lab: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "mine", "Slices")
    loaded = load_checkpoint(tmp_path / "mine", networks={NETS})
    plain = sys.modules[NETS].Slices().eval()
    plain.load_state_dict(loaded.network.state_dict())
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([40.0, 900.0])
    with torch.inference_mode():
        assert_rounded_alike(by_position(loaded, torch.device("cpu"))(x, t), plain(x, t), steps=200)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (f"{NETS}:FailsToBuild", "FailsToBuild cannot be built: its code raised KeyError: 'no such file: …'"),
        (f"{NETS}:Nowhere", "Nowhere cannot be imported: its code raised AttributeError"),
        (f"{NETS}:function", "function must be a class that inherits from torch.nn.Module"),
        (f"{PACKAGE}.script:Net", "script:Net cannot be imported: its code raised SystemExit"),
        (f"{PACKAGE}.incomplete:Net", "Python finds no module a_package_that_nobody_has; install its package"),
    ],
)
def test_a_class_that_fails_refuses_its_model(mine: Path, kind: str, reason: str) -> None:
    """What it says itself has no paths, which are for the log and not for clients."""
    change(mine, type=kind, args={})
    with pytest.raises(ForeignError) as error:
        load_checkpoint(mine, networks={PACKAGE})
    assert reason in reason_of(error.value)
    assert "secret" not in reason_of(error.value)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("FailsAtCalls", "FailsAtCalls cannot be called: its code raised ValueError: …"),
        ("Flat", "Flat must return floats of shape (2, 3, 8, 8), and returned torch.float32 of shape (2, 192)"),
    ],
)
def test_a_call_that_fails_names_the_class(lab: Path, tmp_path: Path, kind: str, reason: str) -> None:
    save_model(tmp_path / "mine", kind)
    network = load_checkpoint(tmp_path / "mine", networks={NETS}).network
    with pytest.raises(ForeignError) as error:
        network(torch.zeros(2, 3, 8, 8), torch.zeros(2))
    assert str(error.value) == f"{NETS}:{reason}"


def test_a_weaker_network_needs_the_permission_too(mine: Path) -> None:
    path = mine / "config.json"
    changed = json.loads(path.read_text()) | {"weaker": {"type": "elsewhere.nets:Net", "num_classes": 3}}
    path.write_text(json.dumps(changed))
    change(mine)
    with pytest.raises(CheckpointError, match=r"elsewhere\.nets:Net is code of another package"):
        load_checkpoint(mine, networks={NETS})
