"""The methods of clients and jobs, of both kinds. They return a result, or a coroutine of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar, Unpack

import httpx

from . import flows, trainings
from .flows import Call, Flow, Patience, ask, exchange, query_of
from .images import ImageLike
from .operations import OPERATIONS, Operation
from .options import Denoise, Generate, Interpolate, KindName, Restore, Upscale
from .results import Facts, Result, State

Images = TypeVar("Images")
Submitted = TypeVar("Submitted")
Priced = TypeVar("Priced")
Models = TypeVar("Models")
Same = TypeVar("Same")

CONNECT_SECONDS = 5.0


class UsageFilters(TypedDict, total=False):
    """The days and the key whose usage is shown."""

    from_: str | None
    """The first day, such as 2026-12-01, in UTC."""
    to: str | None
    """The last day; by default today."""
    key: str | None
    """Only what this key has used, for operators."""


class Requests(ABC, Generic[Images, Submitted, Priced, Models]):
    """One method for each kind of job, which waits for its images, and methods that return jobs, prices and models.

    An image is a path, the bytes of a PNG, JPEG or .npy file, a Pillow image or an array of uint8 or uint16. Options
    are the parameters of the API, by default those of the model; `idempotency_key`, which finds the same job again; and
    `urgency`, 0 (first) to 7 (last). Every method raises a DifusoError, whose subclass says why, if the server refuses
    or there are no images.

    Attributes:
        timeout: seconds that a call may take in all, its job included; None for no limit.
    """

    _http_kind: type[httpx.Client] | type[httpx.AsyncClient]
    _job_kind: Callable[..., Any]

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float | None = 600.0,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.timeout = timeout
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key.strip()}"}
        # Redirects are not followed: they would lose the body of a POST, and take the key elsewhere.
        options: Any = {"headers": headers, "follow_redirects": False, "transport": transport}
        self._http: Any = self._http_kind(base_url=url, **options)

    def generate(self, **options: Unpack[Generate]) -> Images:
        """Generates images from noise and returns them."""
        return self._run(flows.answer("generate", (), options, self._patience()))

    def interpolate(
        self, image_a: ImageLike | None = None, image_b: ImageLike | None = None, **options: Unpack[Interpolate]
    ) -> Images:
        """Interpolates between two images, or between those of a `seed` of two; returns one for each `lambda_`."""
        return self._run(flows.answer("interpolate", (image_a, image_b), options, self._patience()))

    def denoise(self, image: ImageLike, **options: Unpack[Denoise]) -> Images:
        """Removes the noise of an image, or redraws it; without `sigma`, `t` and `strength` the noise is estimated."""
        return self._run(flows.answer("denoise", (image,), options, self._patience()))

    def restore(self, image: ImageLike, **options: Unpack[Restore]) -> Images:
        """Restores a degraded image; `task` names the degradation, and `inpaint` needs a `mask`."""
        return self._run(flows.answer("restore", (image,), options, self._patience()))

    def upscale(self, image: ImageLike, **options: Unpack[Upscale]) -> Images:
        """Enlarges an image, or draws from it whatever the model was trained to draw."""
        return self._run(flows.answer("upscale", (image,), options, self._patience()))

    def submit(self, kind: KindName, /, *images: ImageLike, **options: Any) -> Submitted:
        """Makes a job and returns it at once, without waiting for its images.

        The kind is the name of a method of this client, whose images and options follow.
        """
        return self._run(self._job(flows.submit(kind, images, options, self._patience())))

    def price(self, kind: KindName, /, *images: ImageLike, **options: Any) -> Priced:
        """Returns the price of a job, and the time until it would be done if it were made now. The job is not made.

        The arguments are those of `submit`.
        """
        return self._run(flows.price(kind, images, options, self._patience()))

    def job(self, id: str) -> Submitted:
        """Returns the job of this id; raises NotFound if there is none."""
        return self._run(self._job(flows.get_job({"id": id}, self._patience())))

    def models(self) -> Models:
        """Returns the answer of GET /models: the name of the `default`, and the facts of all `models`."""
        return self._run(flows.models(self._patience()))

    def train(self, pictures: str | Path, *, name: str, **options: Any) -> Models:
        """Sends a zip archive of pictures, has a model trained on them, and returns the training at once.

        It is a dictionary, as GET /trainings/{id} shows it. The dataset has the name of the model.

        Args:
            options: `preset`, `minutes`, the path of a `table`, and `dry_run`, which waits until some steps are
                measured: the `log` says what the whole would need, and nothing stays on the server.
        """
        return self._run(trainings.train(Path(pictures), name, options))

    def training(self, id: str, ask: str | None = None) -> Models:
        """Returns a training as it is now; `ask` is what it shall do first: `pause`, `resume`, `stop` or `delete`."""
        return self._run(trainings.training(id, ask, self._patience()))

    def trainings(self) -> Models:
        """Returns the answer of GET /trainings: your `trainings`, the newest first."""
        return self._run(ask(Call("GET", "/trainings"), self._patience(), "trainings"))

    def fleet(self) -> Models:
        """Returns the answer of GET /fleet, for operators: `workers`, `queues`, and the models that are `paused`."""
        return self._run(ask(Call("GET", "/fleet"), self._patience(), "workers", "queues", "paused"))

    def usage(self, **filters: Unpack[UsageFilters]) -> Models:
        """Returns the answer of GET /usage: what your key has used on each of its `days`; of all keys for an operator.

        Args:
            filters: `from_` and `to`, days such as 2026-12-31; for an operator, the name of a `key`.
        """
        return self._run(ask(Call("GET", "/usage", query_of(filters)), self._patience(), "days"))

    def operate(self, what: Operation, name: str) -> Any:
        """Pauses or resumes a model, cordons or uncordons a worker, or moves a job to the head of its queue."""
        method, path = OPERATIONS[what]
        return self._run(exchange(Call(method, path.format(name)), self._patience()))

    @abstractmethod
    def _run(self, flow: Flow[Any]) -> Any:
        """Carries out the commands of a flow; returns its result, or a coroutine of it."""

    def _job(self, flow: Flow[Facts]) -> Flow[Any]:
        return self._job_kind(self, (yield from flow))

    def _patience(self) -> Patience:
        """Returns the time that a call may take, from now."""
        return Patience(self.timeout)


class AnyJob(Generic[Same, Images]):
    """A job on a server.

    Attributes:
        facts: the job as the server showed it last; docs/http-api.md lists the entries.
    """

    def __init__(self, client: Requests[Any, Any, Any, Any], facts: Facts) -> None:
        self.facts = facts
        self._client = client

    @property
    def id(self) -> str:
        id: str = self.facts["id"]
        return id

    @property
    def state(self) -> State:
        """The state when the server showed the job last; `refresh` asks again."""
        state: State = self.facts["state"]
        return state

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state}>"

    def refresh(self) -> Same:
        """Asks for the job's facts, and returns the job."""
        return self._client._run(self._update(flows.get_job(self.facts, self._client._patience())))

    def wait(self, timeout: float | None = None) -> Same:
        """Waits until the job has ended, in whatever state, and returns it.

        Args:
            timeout: seconds; None for no limit.

        Raises TimedOut if it does not end within the time. The job continues.
        """
        return self._client._run(self._update(flows.wait(self.facts, Patience(timeout))))

    def images(self, timeout: float | None = None) -> Images:
        """Waits like `wait`, and returns the images; JobFailed, JobCancelled or ResultExpired if there are none."""
        return self._client._run(self._images(Patience(timeout)))

    def cancel(self) -> Same:
        """Cancels the job and returns it. A running job ends at its next step; an ended one does not change."""
        return self._client._run(self._update(flows.cancel(self.facts, self._client._patience())))

    def delete_images(self) -> Same:
        """Deletes the images of the job before their time, and returns the job; NotReady if it has not ended."""
        return self._client._run(self._update(flows.delete_images(self.facts, self._client._patience())))

    def _update(self, flow: Flow[Facts]) -> Flow[Any]:
        self.facts = yield from flow
        return self

    def _images(self, patience: Patience) -> Flow[Result]:
        yield from self._update(flows.wait(self.facts, patience))
        return (yield from flows.result(self.facts, self._client._patience()))


def request_of(http: httpx.Client | httpx.AsyncClient, call: Call) -> httpx.Request:
    """Returns the request of a call. There is no limit for a connection to come free: many calls may wait for one."""
    limits = httpx.Timeout(call.seconds, connect=min(CONNECT_SECONDS, call.seconds), pool=None)
    return http.build_request(
        call.method,
        call.path,
        params=call.params,
        headers=call.headers,
        content=call.body,
        files={name: part if isinstance(part, tuple) else (name, part) for name, part in call.files.items()},
        timeout=limits,
    )
