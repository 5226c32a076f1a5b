"""A package of networks that is not ours, as its author and an operator would make it, and models that name it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from difuso.model.checkpoint import save_checkpoint
from difuso.model.conditions import Conditions, sequences_in, vector_size
from difuso.model.folders.config import ModelConfig, SamplerDefaults
from difuso.model.folders.files import CONFIG, SUMS, file_sha256
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import ForeignConfig
from difuso.model.plans.prediction import Preconditioning
from difuso.model.shape import Shown

PACKAGE = "strangerlab"
CANARY = "imported"  # a file beside the package, in which each process that imports it writes its number
CLASSES = ("circle", "square", "star")
NETS = '''
import math
import os
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune

with Path(__file__).with_name("imported").open("a") as canary:
    print(os.getpid(), file=canary)


class Denoiser(nn.Module):
    """A small network in the manner of research code: views, buffers outside of the state, a time of its own."""

    def __init__(self, width=16, classes=0):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        self.time = nn.Linear(width, width)
        self.labels = nn.Embedding(classes + 1, width) if classes else None
        self.register_buffer("frequencies", torch.exp(-torch.arange(width // 2) * 8 / width), persistent=False)
        self.register_buffer("made", torch.tensor(2026))
        self.classes = classes

    def forward(self, x, t, *, labels=None, vector=None, planes=None, level=None):
        angles = t.float()[:, None] * self.frequencies[None]
        emb = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        if self.labels is not None:
            emb = emb + self.labels(labels)
        h = self.first(x) + emb[:, :, None, None]
        b, c, height, width = h.shape
        tokens = torch.nn.functional.silu(h).view(b, c, height * width)
        tokens = tokens + torch.softmax(tokens / math.sqrt(c), dim=2)
        return self.last(tokens.view(b, c, height, width))


class Slices(Denoiser):
    """It has weights of five dimensions: the channels are the slices of a volume."""

    def __init__(self, width=16, classes=0):
        super().__init__(width, classes)
        self.volume = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x, t, **inputs):
        return super().forward(self.volume(x[:, None])[:, 0], t)


class Stack(nn.Module):
    """Its channels are the slices of a volume, which it sees through convolutions in three dimensions."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = nn.Conv3d(1, width, 3, padding=1), nn.Conv3d(width, 1, 3, padding=1)
        self.time = nn.Linear(1, width)

    def forward(self, x, t, **inputs):
        h = self.first(x.unsqueeze(1)) + self.time(t[:, None] / 1000)[:, :, None, None, None]
        return self.last(nn.functional.silu(h)).squeeze(1)


class Steep(Denoiser):
    """It takes ln(sigma) / 4, and a timestep in its place would be too much for it."""

    def forward(self, x, t, **inputs):
        return super().forward(x, t) / t.exp()[:, None, None, None]


class Kept(nn.Module):
    """It keeps its arguments."""

    def __init__(self, **args):
        super().__init__()
        self.args = args


class Conditional(Denoiser):
    """It takes a vector, and normalises with the means of its training."""

    def __init__(self, width=16, classes=0, vector=0):
        super().__init__(width, classes)
        self.norm = nn.BatchNorm2d(3)
        self.vector = nn.Linear(vector, 3)

    def forward(self, x, t, *, vector, labels=None):
        return super().forward(self.norm(x) + self.vector(vector)[:, :, None, None], t, labels=labels)


class Attentive(Denoiser):
    """Its pixels attend to the vectors of a sequence that are there, and to one of its own."""

    def __init__(self, width=16, classes=0, text=0, vector=0):
        super().__init__(width, classes)
        self.query, self.key, self.value = nn.Linear(3, 8), nn.Linear(text, 8), nn.Linear(text, 8)
        self.out = nn.Linear(8, 3)
        self.nothing = nn.Parameter(torch.ones(1, 1, text))

    def vectors(self, sequence, sequence_mask):
        there = torch.cat([torch.ones_like(sequence_mask[:, :1]), sequence_mask], dim=1)
        return torch.cat([self.nothing.expand(len(sequence), -1, -1), sequence], dim=1), there

    def forward(self, x, t, *, sequence, sequence_mask, labels=None, vector=None):
        vectors, there = self.vectors(sequence, sequence_mask)
        query, key, value = self.query(x.flatten(2).transpose(1, 2)), self.key(vectors), self.value(vectors)
        seen = self.attend(query[:, None], key[:, None], value[:, None], there[:, None, None])
        return super().forward(x + self.out(seen[:, 0]).transpose(1, 2).reshape(x.shape), t, labels=labels)

    def attend(self, query, key, value, there):
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=there)


class AttendsToNothing(Attentive):
    """It has no vector of its own, and divides by 0 where none is there."""

    def vectors(self, sequence, sequence_mask):
        return sequence, sequence_mask

    def attend(self, query, key, value, there):
        scores = (query @ key.transpose(2, 3)).masked_fill(~there, -math.inf)
        return torch.softmax(scores, dim=3) @ value


class Plain(nn.Module):
    """Nothing but the layers that most networks are made of."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(1, 24), nn.ReLU(), nn.Linear(24, 40))
        self.first = nn.Conv2d(3, 40, 3, padding=1)
        self.down = nn.Conv2d(40, 40, 4, stride=2, padding=1)
        self.last = nn.Conv2d(40, 3, 1)

    def forward(self, x, t, **inputs):
        h = self.down(self.first(x) + self.time(t[:, None] / 1000)[:, :, None, None])
        return nn.functional.interpolate(self.last(h), scale_factor=2)


class Hooked(Plain):
    """Before each call a function of PyTorch makes some of its weights from others."""

    def __init__(self):
        super().__init__()
        for layer in (self.first, self.last, self.time[2]):
            self.hook(layer)


class WeightNorm(Hooked):
    hook = staticmethod(nn.utils.weight_norm)


class SpectralNorm(Hooked):
    hook = staticmethod(nn.utils.spectral_norm)


class Pruned(Hooked):
    hook = staticmethod(lambda layer: prune.random_unstructured(layer, "weight", 0.5))


class Parametrized(Hooked):
    hook = staticmethod(nn.utils.parametrizations.weight_norm)


class Rewriting(Plain):
    """It changes a weight in its calls."""

    def forward(self, x, t, **inputs):
        self.first.weight.data = torch.full_like(self.first.weight, 0.1)
        return super().forward(x, t)


class Mixing(Denoiser):
    """Its images depend on their neighbours."""

    def forward(self, x, t, **inputs):
        return super().forward(x - x.mean(dim=0, keepdim=True), t)


class FailsToBuild(Denoiser):
    def __init__(self):
        raise KeyError("no such file: /home/me/secret")


class FailsAtCalls(Denoiser):
    def forward(self, x, t, **inputs):
        raise ValueError("/home/me/secret")


class FailsLate(Denoiser):
    """It fails in runs, whose timesteps are not those of the warm-up."""

    def forward(self, x, t, **inputs):
        if (t < 2).any():
            raise SystemExit("/home/me/secret")
        return super().forward(x, t)


class Random(Denoiser):
    """It draws, hears nothing, and has a weight that is never trained."""

    def forward(self, x, t, *, labels):
        return self.last(self.first(x)) + torch.randn_like(x)


class Flat(Denoiser):
    def forward(self, x, t, **inputs):
        return super().forward(x, t).flatten(1)


class Whole(Denoiser):
    def forward(self, x, t, **inputs):
        return super().forward(x, t).long()


class Nan(Denoiser):
    def forward(self, x, t, **inputs):
        return super().forward(x, t) * float("nan")


def function(width=16):
    return Denoiser(width)
'''
TRAINING = '''
import numpy as np
import torch

SEEN = []


def greys(data, shape):
    """Images of one grey each, whose condition is how bright they are."""
    for level in range(data.count):
        SEEN.append((data.path, tuple(shape)))
        yield {"image": np.full(shape.hwc, 16 * (level % 16), np.uint8), "label": level % 3, "bright": level % 16 / 15}


def described(data, shape):
    """The same with a sequence of 0 to 3 vectors, which has no length where it is absent."""
    for number, item in enumerate(greys(data, shape)):
        text = np.full((number % 4, 5), item["bright"], np.float16)
        yield {**item, "text": text} if len(text) else item


def stacks(data, shape):
    """Arrays of any number of channels."""
    draw = np.random.default_rng(0)
    for _ in range(data.count):
        yield draw.integers(0, 256, shape.hwc, dtype=np.uint8)


def bare(data, shape):
    for level in range(16):
        yield np.full(shape.hwc, level, np.uint8)


def bad(data, shape):
    yield np.zeros((2, 2, 3), np.uint8)


def named(data, shape):
    yield {"image": np.zeros(shape.hwc, np.uint8), "label": "cat", "bright": 0.0}


def breaks(data, shape):
    yield {"image": np.zeros(shape.hwc, np.uint8), "label": 0, "bright": 0.0}
    raise OSError("/home/me/secret")


def absolute(network, x0, t, noise, schedule):
    abar = torch.from_numpy(schedule.alphas_cumprod)[t].view(-1, 1, 1, 1).to(x0)
    return (network(abar.sqrt() * x0 + (1 - abar).sqrt() * noise, t) - x0).abs().mean((1, 2, 3))


def one(network, x0, t, noise, schedule):
    return absolute(network, x0, t, noise, schedule).mean()


def late(count, generator, total):
    return torch.randint(total // 2, total, (count,), generator=generator)


def too_late(count, generator, total):
    return late(count, generator, total) + total


def falling(schedule, factor=1.0):
    return factor * (1 - np.arange(schedule.num_train_timesteps) / schedule.num_train_timesteps)


def negative(schedule):
    return -falling(schedule)


def momentum(parameters, learning_rate, weight_decay, kind=torch.optim.SGD):
    """Biases and norms learn slowly, and do not decay."""
    slow = {"params": [each for each in parameters if each.ndim < 2], "lr": learning_rate / 10, "weight_decay": 0}
    quick = {"params": [each for each in parameters if each.ndim > 1], "weight_decay": weight_decay}
    return kind([quick, slow], lr=learning_rate, momentum=0.9)


class Stumbling(torch.optim.SGD):
    def step(self):
        raise OSError("/home/me/secret")


class Hoarding(torch.optim.SGD):
    def step(self):
        self.param_groups[0]["function"] = late


def stumbling(*args):
    return momentum(*args, Stumbling)


def hoarding(*args):
    return momentum(*args, Hoarding)


def no_optimizer(parameters, learning_rate, weight_decay):
    return parameters


def brighter(image, generator):
    """The left half becomes white, and more, but for a little noise."""
    image[:, :, : image.shape[2] // 2] += 3
    return image + torch.randn(image.shape, generator=generator) / 10


def halved(image, generator):
    return image[:, ::2]


def endless(image, generator):
    return image / 0
'''
SCRIPT = "import sys\nsys.exit('usage: train.py DATA')\n"
INCOMPLETE = "import a_package_that_nobody_has\n"


def write_package(folder: Path) -> Path:
    """Writes the package into a folder, which it returns."""
    package = folder / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name, text in {"nets": NETS, "training": TRAINING, "script": SCRIPT, "incomplete": INCOMPLETE}.items():
        (package / f"{name}.py").write_text(text)
    return folder


@contextmanager
def on_the_path(folder: Path) -> Iterator[None]:
    """Lets Python find the package in a folder, and forgets it afterwards."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def config_of(
    kind: str,
    *,
    classes: tuple[str, ...] | None = None,
    conditions: Conditions | None = None,
    preconditioning: Preconditioning | None = None,
    channels: int = 3,
    shown: Shown | None = None,
) -> ModelConfig:
    """The config of a model of 8x8 images, usually RGB, with one of the package's networks."""
    inputs, count = conditions or {}, None if classes is None else len(classes)
    text = sum(each.width for each in sequences_in(inputs).values())
    args = {"classes": count, "vector": vector_size(inputs), "text": text}
    network = ForeignConfig(
        type=f"{PACKAGE}.nets:{kind}",
        args={name: value for name, value in args.items() if value},
        in_channels=channels,
        out_channels=channels,
        size_multiple=4,
        num_classes=count,
        vector_size=vector_size(inputs),
    )
    defaults = SamplerDefaults("ddim", 4, "trailing")
    return ModelConfig(
        network,
        image_size=8,
        channels=channels,
        shown=shown,
        prediction="v" if preconditioning is None else "x0",
        preconditioning=preconditioning,
        classes=classes,
        conditions=inputs,
        defaults=defaults,
    )


def save_model(folder: Path, kind: str = "Denoiser", **fields: Any) -> None:
    """Saves a model with random weights. For a class that cannot be built they are those of `Denoiser`."""
    config = config_of("Denoiser" if kind == "FailsToBuild" else kind, **fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(folder, config, build_network(config.network))
    change(folder, type=f"{PACKAGE}.nets:{kind}")


def change(folder: Path, **fields: Any) -> None:
    """Changes fields of the network in a model's config, whose sum then agrees with it."""
    content = json.loads((folder / CONFIG).read_text())
    content["network"] |= fields
    (folder / CONFIG).write_text(json.dumps(content))
    lines = (folder / SUMS).read_text().splitlines()
    others = [line for line in lines if not line.endswith(CONFIG)]
    (folder / SUMS).write_text("\n".join([*others, f"{file_sha256(folder / CONFIG)}  {CONFIG}", ""]))
