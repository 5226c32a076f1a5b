"""The requests of clients: a few dozen recipes of every kind of job, and who sends which, when and how."""

import io
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from PIL import Image

# Classes of the model that the run serves. `benchmarks.chaos.poison` is the worker to which two of them are fatal.
HARMLESS, FATAL, FATAL_LATE = CLASSES = ("harmless", "fatal", "fatal-late")
SIZE = 16  # of the images, and of those that are sent along
Manner = Literal["async", "wait", "events"]
MANNERS: tuple[Manner, ...] = get_args(Manner)
Parameters = tuple[tuple[str, str], ...]
# Steps and images: most jobs are over in a second, and some live long enough to see several faults.
SHAPES = ((1, 20), (2, 100), (8, 40), (1, 400), (4, 200), (1, 1000))
VARIANTS = 2  # of each recipe, with other seeds and images
KEYED, TWINS, RIVALS, CANCELLED = 0.5, 0.1, 0.15, 0.05  # shares; twins and rivals of those with a key
LONGEST_PATIENCE = 3.0  # seconds until a client cancels, at most


@dataclass(frozen=True)
class Recipe:
    """A request; the same recipe gives the same bytes each time.

    Attributes:
        path: its endpoint.
        parameters: the parameters of its query.
        parts: the images that are sent along, by name.
        fatal: whether it kills any worker that runs it.
    """

    path: str
    parameters: Parameters
    parts: Mapping[str, bytes] = field(default_factory=dict)
    fatal: bool = False


@dataclass(frozen=True)
class Order:
    """A client's errand.

    Attributes:
        at: seconds since the beginning.
        recipe: the index of its recipe.
        manner: how the client waits for its images.
        key: its Idempotency-Key; without one, a request whose answer is lost is not sent again.
        twin: whether the same request is sent to two front ends at once.
        rival: the index of another recipe that is sent at the same time under the same key; one of the two is refused.
        cancel_after: seconds after acceptance at which the client cancels.
    """

    number: int
    at: float
    recipe: int
    manner: Manner = "async"
    key: str | None = None
    twin: bool = False
    rival: int | None = None
    cancel_after: float | None = None


def draw_recipes(seed: int) -> list[Recipe]:
    """Returns recipes of every kind of job in several shapes; the last two kill."""
    draw = random.Random(f"recipes {seed}")
    harmless = [recipe for _ in range(VARIANTS) for recipe in _recipes(draw)]
    return [*harmless, *(_generate(draw, 1, 40, label=label, fatal=True) for label in (FATAL, FATAL_LATE))]


def draw_orders(
    recipes: Sequence[Recipe], seconds: float, seed: int, *, rate: float, poison_at: Sequence[float] = ()
) -> list[Order]:
    """Returns errands that come independently, `rate` a second on average, and the poison when it is due."""
    draw = random.Random(f"orders {seed}")
    harmless = [index for index, recipe in enumerate(recipes) if not recipe.fatal]
    fatal = [index for index, recipe in enumerate(recipes) if recipe.fatal]
    orders: list[Order] = []
    at = draw.expovariate(rate)
    while at < seconds:
        orders.append(_order(draw, len(orders), at, recipes, harmless))
        at += draw.expovariate(rate)
    for index, at in enumerate(poison_at):
        key = str(uuid.UUID(int=draw.getrandbits(128)))
        orders.append(Order(len(orders), at, fatal[index % len(fatal)], key=key))
    return sorted(orders, key=lambda order: order.at)


def _order(draw: random.Random, number: int, at: float, recipes: Sequence[Recipe], choices: Sequence[int]) -> Order:
    recipe = draw.choice(choices)
    manner: Manner = draw.choice(MANNERS)
    if draw.random() < CANCELLED:
        return Order(number, at, recipe, cancel_after=draw.uniform(0, LONGEST_PATIENCE))
    if draw.random() > KEYED:
        return Order(number, at, recipe, manner)
    key = str(uuid.UUID(int=draw.getrandbits(128)))
    which = draw.random()
    if which < TWINS:
        return Order(number, at, recipe, manner, key, twin=True)
    if which < TWINS + RIVALS:
        rivals = [index for index in choices if index != recipe and recipes[index].path == recipes[recipe].path]
        return Order(number, at, recipe, "async", key, rival=draw.choice(rivals))
    return Order(number, at, recipe, manner, key)


def _recipes(draw: random.Random) -> Iterator[Recipe]:
    for n, steps in SHAPES:
        yield _generate(draw, n, steps, sampler=draw.choice(("ddim", "ddpm", "dpmpp")))
    yield _generate(draw, 2, 100, label=HARMLESS, guidance_scale="2")
    ends = {"image_a": _picture(draw), "image_b": _picture(draw)}
    yield _edit(draw, "/interpolate", ends, ("lambda", "0.25"), ("lambda", "0.75"), steps="200", t="600")
    yield _edit(draw, "/interpolate", ends, ("lambda", "0.5"), mode="ddim", steps="150")
    yield _edit(draw, "/interpolate", ends, ("lambda", "0.1"), noise="rescaled", steps="20")
    yield _edit(draw, "/denoise", {"image": _picture(draw)}, strength="0.8", steps="400")
    yield _edit(draw, "/denoise", {"image": _picture(draw)}, t="300", n="4", average="true", steps="100")
    yield _edit(draw, "/denoise", {"image": _picture(draw)}, sigma="30", mode="mmse")
    yield _edit(draw, "/restore", {"image": _picture(draw), "mask": _mask(draw)}, task="inpaint", steps="100")
    yield _edit(draw, "/restore", {"image": _picture(draw)}, task="superres", n="2", steps="200")
    yield _edit(draw, "/restore", {"image": _picture(draw)}, task="colorize", steps="50")
    yield _edit(draw, "/restore", {"image": _picture(draw)}, task="deblur", sigma="4", steps="300")


def _generate(draw: random.Random, n: int, steps: int, *, fatal: bool = False, **others: str) -> Recipe:
    parameters = {"n": str(n), "steps": str(steps), "seed": _seed(draw), **others}
    return Recipe("/generate", tuple(parameters.items()), fatal=fatal)


def _edit(
    draw: random.Random, path: str, parts: Mapping[str, bytes], *pairs: tuple[str, str], **parameters: str
) -> Recipe:
    return Recipe(path, (*pairs, *parameters.items(), ("seed", _seed(draw))), parts)


def _seed(draw: random.Random) -> str:
    return str(draw.randrange(2**32))


def _picture(draw: random.Random) -> bytes:
    return _png(Image.frombytes("RGB", (SIZE, SIZE), draw.randbytes(3 * SIZE * SIZE)))


def _mask(draw: random.Random) -> bytes:
    side = draw.randrange(4, SIZE - 2)
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(255, (2, 2, side, side))
    return _png(mask)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
