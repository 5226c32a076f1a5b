"""The answers of a server: the facts of a job, its images, and the price of a request."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self, get_args, overload

import numpy as np
from PIL import Image

from .reading import MAX_IMAGES, Archive, arrays_of, check, open_pngs, table, understood

Facts = dict[str, Any]  # a job as GET /jobs/{id} shows it
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED = frozenset({"succeeded", "failed", "cancelled"})
MAX_NUMBER = 2**53  # up to which every parser of JSON keeps integers exact

# The forms of names, as in `jobs`: they become parts of paths, of addresses and of what is printed.
JOB_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MODEL_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
VERSION = r"[0-9a-f]{64}"
KIND = r"[a-z][a-z0-9_]{0,31}"


class Result(Sequence[Image.Image]):
    """The images of a job; it can be used like a list of Pillow images.

    Attributes:
        pngs: the images as PNG files, exactly as the worker wrote them; each holds its parameters as text. Images of
            other than 1 or 3 channels are not PNGs: then `pngs` and `manifest` are empty, and `pixels` has the images.
        manifest: everything needed to make the images again.
        facts: the job as GET /jobs/{id} shows it.
        trace: the floats of the moments that `trace` named, as numpy arrays by name; empty if it named none. `x_t` and
            `x_0` have the shape (N, K, H, W, C), and `timesteps` and `alphas_cumprod` (K,).

    Examples:
        >>> with open("docs/images/faces.png", "rb") as file:
        ...     result = Result([file.read()], manifest={}, facts={"id": "5f0c"})
        >>> len(result), result[0].mode, result.pixels.ndim
        (1, 'RGB', 4)
    """

    def __init__(
        self,
        pngs: Sequence[bytes],
        manifest: dict[str, Any],
        facts: Facts,
        trace: Mapping[str, np.ndarray[Any, Any]] | None = None,
        pixels: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self.pngs = tuple(pngs)
        self.manifest = manifest
        self.facts = facts
        self.trace = dict(trace or {})
        self._pixels = pixels

    @classmethod
    def read(cls, archive: bytes | None, facts: Facts, npz: bytes | None = None) -> Self:
        """Reads the answers `application/zip` and `application/x-npz`; one of them may be absent."""
        arrays = {} if npz is None else arrays_of(npz)
        trace = {name: array for name, array in arrays.items() if not name.startswith("arr_")}  # without the classes
        if archive is None:
            pixels = arrays["arr_0"]
            check(pixels.ndim == 4 and len(pixels) <= MAX_IMAGES and pixels.dtype in (np.uint8, np.uint16))
            return cls((), {}, facts, trace, pixels)
        files = Archive(archive)
        manifest = table(files.read("manifest.json"))
        check(len(manifest["images"]) <= MAX_IMAGES)
        return cls([files.read(image["file"]) for image in manifest["images"]], manifest, facts, trace)

    @cached_property
    def images(self) -> list[Image.Image]:
        """The images, decoded when they are first asked for.

        TypeError if they are not PNGs; DifusoError if they are damaged, or have more pixels than those of any model.
        """
        if self._pixels is not None:
            raise TypeError(f"images of {self._pixels.shape[-1]} channels are not Pillow images: use pixels")
        with understood("The result"):
            images = open_pngs(self.pngs)
            for image in images:
                image.load()
        return images

    @cached_property
    def pixels(self) -> np.ndarray[Any, Any]:
        """The images as one array, uint8 of shape (N, H, W, C); uint16 if they have 16 bits."""
        if self._pixels is not None:
            return self._pixels
        arrays = [np.asarray(image) for image in self.images]
        return np.stack([each.reshape(*each.shape[:2], -1) for each in arrays])

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...

    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        return self.images[index]

    def __len__(self) -> int:
        return len(self.pngs) if self._pixels is None else len(self._pixels)

    def __repr__(self) -> str:
        return f"<Result of job {self.facts['id']}: {len(self)} images>"


@dataclass(frozen=True)
class Price:
    """The price of a request, and the time until it would be done if it were sent now.

    Attributes:
        kind: the name of the kind of job.
        model: the name of the model.
        image_steps: the network calls of all images together.
        images: the number of images in the result.
        seconds: the time that the job takes alone on a worker; None while the speed is unknown.
        eta_seconds: the time until it would be done, after all waiting jobs; None while the speed is unknown.
        params: the sampling parameters, all filled in. With their `seed` the request makes the images of this price.
        task: the parameters of this kind of job only; None if it has none.
        version: the version of the model that would draw it; None from an older server.
        cost: its share of an API key's limits, in image-steps; None from an older server.
        stored_bytes: the most bytes that it leaves in the server's store and, counted twice, in its Redis; None from an
            older server.

    Examples:
        >>> price = Price("generate", "faces64", image_steps=200, images=4, seconds=6.1, eta_seconds=None, params={})
        >>> price.image_steps / price.images
        50.0
    """

    kind: str
    model: str
    image_steps: int
    images: int
    seconds: float | None
    eta_seconds: float | None
    params: dict[str, Any]
    task: dict[str, Any] | None = None
    version: str | None = None
    cost: int | None = None
    stored_bytes: int | None = None

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        """Reads the server's answer; entries that a newer server adds are ignored."""
        _check_request(answer)
        numbers = (answer["seconds"], answer["eta_seconds"], answer.get("cost"), answer.get("stored_bytes"))
        check("seed" in answer["params"] and all(is_count(answer[name]) for name in ("image_steps", "images")))
        check(all(number is None or is_number(number) for number in numbers))
        return cls(**{each.name: answer[each.name] for each in fields(cls) if each.name in answer})


def read_job(answer: dict[str, Any]) -> Facts:
    """Returns the facts of a job, whose names have their forms; raises if it is not a job."""
    check(re.fullmatch(JOB_ID, answer["id"]) is not None and answer["state"] in get_args(State))
    _check_request(answer)
    check(isinstance(answer.get("links", {}), dict))
    return answer


def read_page(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns a part of the list of jobs; raises if it is something else."""
    check(isinstance(answer["jobs"], list) and isinstance(answer.get("next"), str | None))
    return answer | {"jobs": [read_job(each) for each in answer["jobs"]]}


def read_models(answer: dict[str, Any]) -> dict[str, Any]:
    """Returns the list of models; raises if it is something else. Models that are refused may have any name."""
    check(isinstance(answer["models"], list) and isinstance(answer.get("default"), str | None))
    check(all(isinstance(each["name"], str) for each in answer["models"]))
    return answer


def is_count(value: Any) -> bool:
    """Returns whether a value of JSON is an integer from 0 to MAX_NUMBER; a bool is not."""
    return type(value) is int and 0 <= value <= MAX_NUMBER


def is_number(value: Any) -> bool:
    """Returns whether a value of JSON is a number of at most MAX_NUMBER; NaN and a bool are not."""
    return type(value) in (int, float) and abs(value) <= MAX_NUMBER


def _check_request(answer: dict[str, Any]) -> None:
    """Raises unless what a job or a price says of its request has the forms that are known."""
    for name, form in {"kind": KIND, "model": MODEL_NAME, "version": VERSION}.items():
        check(name not in answer or re.fullmatch(form, answer[name]) is not None)
    params, task = answer.get("params", {}), answer.get("task")
    check(isinstance(params, dict) and isinstance(task, dict | None))
    seeds = params.get("seed", [])
    check(is_count(seeds) or (isinstance(seeds, list) and all(map(is_count, seeds))))
