"""The answers of a server: the facts of a job, its images, and the price of a request."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self, overload

import numpy as np
from PIL import Image

from .errors import DifusoError

Facts = dict[str, Any]  # a job as GET /jobs/{id} shows it
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ENDED = frozenset({"succeeded", "failed", "cancelled"})


@contextmanager
def understood(said: str) -> Iterator[None]:
    """Turns every error of the block, which reads what `said` is, into a DifusoError."""
    try:
        yield
    except Exception as error:  # zipfile and NumPy raise many kinds
        raise DifusoError(f"{said} is not from difuso: check the address") from error


class Result(Sequence[Image.Image]):
    """The images of a job; it can be used like a list of Pillow images.

    Attributes:
        pngs: the images as PNG files, exactly as the worker wrote them; each holds its parameters as text. Images of
            other than 1 or 3 channels are not PNGs: then `pngs` and `manifest` are empty, and `pixels` has the images.
        manifest: everything needed to make the images again.
        facts: the job as GET /jobs/{id} shows it.
        trace: the floats of the moments that `trace` named, as numpy arrays by name; empty if it named none. `x_t` and
            `x_0` have the shape (N, K, H, W, C), `x_start` (N, H, W, C), and `timesteps` and `alphas_cumprod` (K,).

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
        arrays = {} if npz is None else dict(np.load(io.BytesIO(npz)))
        trace = {name: array for name, array in arrays.items() if not name.startswith("arr_")}  # without the classes
        if archive is None:
            return cls((), {}, facts, trace, arrays["arr_0"])
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            manifest = json.loads(files.read("manifest.json"))
            return cls([files.read(image["file"]) for image in manifest["images"]], manifest, facts, trace)

    @property
    def warnings(self) -> list[dict[str, str]]:
        """What the server warns of, such as values that the model has never seen together: `code` and `detail` each."""
        return list(self.facts.get("warnings", ()))

    @cached_property
    def images(self) -> list[Image.Image]:
        """The images, decoded when they are first asked for; TypeError if they are not PNGs."""
        if self._pixels is not None:
            raise TypeError(f"images of {self._pixels.shape[-1]} channels are not Pillow images: use pixels")
        return [Image.open(io.BytesIO(png)) for png in self.pngs]

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
        version: the version of the model that would draw it.
        cost: its share of an API key's limits, in image-steps.
        stored_bytes: the most bytes that it leaves in the server's store and, counted twice, in its Redis.
        warnings: what the server warns of, like `Result.warnings`.
        load_seconds: the part of `eta_seconds` in which a worker loads the model; None if one has.
        asleep: whether the request starts workers of its model; `load_seconds` is then what that took last time.
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
    warnings: Sequence[dict[str, str]] = ()
    load_seconds: float | None = None
    asleep: bool = False

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Self:
        """Reads the server's answer; entries that a newer server adds are ignored."""
        return cls(**{each.name: answer[each.name] for each in fields(cls) if each.name in answer})
