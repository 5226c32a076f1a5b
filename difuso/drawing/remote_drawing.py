"""Images that a server draws: those of one job, or many in many jobs of the lowest urgency.

Each of many jobs has an Idempotency-Key made from its parameters. So a repeated request for the same images, even after
a crash of this program, finds the jobs that are running or have ended.
"""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from difuso.jobs.conditions import split_files
from difuso.jobs.contract import URGENCIES
from difuso.jobs.kinds import KINDS
from difuso.jobs.params import MODEL_NAME, SamplingParams
from difuso.jobs.queries import SamplingQuery
from difuso.model.conditions import Conditions
from difuso.model.folders.config import Precision, SamplerDefaults
from difuso.model.folders.config_json import RESERVED, read_conditions
from difuso.model.folders.files import VERSION
from difuso.model.folders.never import Never
from difuso.model.shape import ImageSize, Shape

from ..client import (
    AsyncClient,
    Client,
    DifusoError,
    JobCancelled,
    JobFailed,
    NotFound,
    Progress,
    Result,
    ResultExpired,
)
from ..client.flows import ABANDON_SECONDS
from ..client.results import ENDED
from ..errors import UserError, user_errors
from ..options import API_KEY
from ..progress import progress, title_of
from .drawing import DrawingModel, Loaded
from .sampling import Request, check_holds_planes, check_place, write_images

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0  # for the first answer of a server
IN_FLIGHT = 2  # jobs for each worker: one that it draws, and one that waits


class ServedView(BaseModel):
    """The entries of a model in GET /models that drawing needs; all but its name are absent if it is refused."""

    name: str = Field(pattern=MODEL_NAME)
    workers: int = 0
    image_size: ImageSize = 1
    channels: int = 1
    classes: tuple[str, ...] | None = None
    classifier_classes: int = 0
    conditions: dict[str, dict[str, Any]] = {}
    never: Never = ()
    defaults: SamplerDefaults = SamplerDefaults()
    version: Annotated[str, Field(pattern=VERSION)] = ""  # a part of the names of folders
    versions: tuple[dict[str, Any], ...] = ()  # this one first; others may get a `share` of the requests
    precision: Precision = "float32"

    @property
    def shape(self) -> Shape:
        """The shape of an image."""
        return Shape.of(self.image_size, self.channels)

    @property
    def declared(self) -> Conditions:
        """The conditions of the network, by name."""
        return read_conditions({name: each for name, each in self.conditions.items() if name not in RESERVED})

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, of which no two are the same; None if it has none."""
        return tuple(self.conditions.get("label", {}).get("values", ())) or self.classes


class ServedWarning(BaseModel):
    """What the server warns of."""

    detail: str


class ServedJob(BaseModel):
    """The entries of a job that the names of its files are made of, and its warnings."""

    model: str = Field(pattern=MODEL_NAME)
    params: SamplingParams
    task: dict[str, Any] = {}
    warnings: tuple[ServedWarning, ...] = ()


def ask_server(url: str, request: Request, out: Path) -> list[Path]:
    """Runs one job on a server, for as long as it takes; otherwise like `make_images`. Ctrl-C cancels the job.

    Raises UserError if the server cannot do what is asked, or a file cannot be read.
    """
    check_place(out)
    kind: Any = request.kind.name
    with connected(url) as client:
        model = chosen_model(client, request)
        if model is not None:
            check_holds_planes(out, model.shape.planes)
        job = client.submit(kind, **arguments(request, model))
        shown = ServedJob.model_validate(job.facts)
        for warning in shown.warnings:
            log.warning(warning.detail)
        params, task = shown.params, request.kind.task.model_validate(shown.task)
        try:
            with progress(title_of(shown.model, params.seed)) as show:
                for event in job.events():
                    if isinstance(event, Progress):
                        show(event.done / event.total)
            result = job.images()
        except KeyboardInterrupt:
            client.timeout = ABANDON_SECONDS  # for the server may be away
            with suppress(DifusoError):
                job.cancel()
            raise
    return write_images(out, result.pngs, result.pixels, result.trace, model=shown.model, task=task, params=params)


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """Yields a client of a server, and turns its errors inside the block into UserError.

    A server that has answered once may be away for a while, because it may be restarting. A server that has never
    answered is taken to be at another address.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at level info it logs every request
    try:
        with httpx.stream("GET", f"{url}/healthz", timeout=CONNECT_SECONDS):
            pass
    except httpx.ReadTimeout:
        pass  # it is there, and busy
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise UserError(
            f"no server answers at {url} ({error}): check the address, and that difuso runs there"
        ) from error
    try:
        with Client(url, api_key=os.environ.get(API_KEY), timeout=None) as client:
            yield client
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    except DifusoError as error:
        raise UserError(f"{url}: {error}") from error
    except ValidationError as error:
        raise UserError(f"{url} is not difuso, or of another version: {error}") from error


def arguments(request: Request, model: ServedView | None) -> dict[str, Any]:
    """Returns a request for a model as the client's methods take it; files of conditions are paths.

    Raises UserError if there are several for one condition.
    """
    _, query, files = request
    sent = query.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if sent.pop("condition", None) is not None:
        with user_errors():
            given, named = split_files(query.conditions, {} if model is None else model.declared)
        values = {name: each[0] if len(each) == 1 else list(each) for name, each in (given or {}).items()}
        sent["conditions"] = values | {name: Path(str(file)) for name, file in named.items()}
    return sent | {name: str(file) for name, file in files.items() if file is not None}


def chosen_model(client: Client, request: Request) -> ServedView | None:
    """Returns the model that a server will choose, as it shows it; None if it has none."""
    found = client.models()
    models = {model["name"]: model for model in found["models"]}
    drawing = (name for name, model in models.items() if "condition" in model)  # from an image
    needs_one = request.kind.task.enlarges
    chosen = request.query.model or (min(drawing, default=None) if needs_one else found.get("default"))
    return ServedView.model_validate(models[chosen]) if chosen in models else None


class ServedModel(DrawingModel):
    """A model of a server, as it was shown; all its jobs get the tag."""

    def __init__(self, url: str, view: ServedView, *, tag: str | None = None) -> None:
        self._url = url
        self._view = view
        self._tag = tag
        self._jobs = IN_FLIGHT * max(1, view.workers)  # that wait or run at a time
        self.name = view.name
        self._loaded = Loaded(view.version, view.precision)
        self._named_version = {"version": view.version} if any(each.get("share") for each in view.versions[1:]) else {}
        self.shape = view.shape
        self.class_names = view.class_names
        self.labels = view.classifier_classes if self.class_names is None else len(self.class_names)
        self.conditions, self.never = view.declared, view.never
        self.defaults = view.defaults

    @property
    def loaded(self) -> Loaded:
        return self._loaded

    def settle(self, query: SamplingQuery) -> SamplingParams:
        """Lets the server fill in what a query leaves open, and check whether the run is possible."""
        request = Request(KINDS["generate"], query.model_copy(update={"model": self.name, **self._named_version}))
        with connected(self._url) as client:
            asked: Any = arguments(request, self._view)
            params = SamplingParams.model_validate(client.price("generate", **asked).params)
        # The price fills in the conditions of one image; each is to get its own.
        given = {name: values for name, values in params.conditions.items() if name in (query.conditions or {})}
        return params.model_copy(update={"conditions": given})

    def draw(
        self, runs: Iterable[SamplingParams], keep: Callable[[int, list[bytes]], None], files: Mapping[str, bytes]
    ) -> None:
        if files:
            raise UserError(f"{self._url}: images of a sequence each are drawn without --server only")
        try:
            asyncio.run(self._draw(enumerate(runs), keep))
        except DifusoError as error:
            raise UserError(f"{self._url}: {error}") from error

    async def _draw(self, runs: Iterator[tuple[int, SamplingParams]], keep: Callable[[int, list[bytes]], None]) -> None:
        async def work() -> None:
            for number, run in runs:
                result = await self._images(client, run)
                keep(number, list(result.pngs))

        key = os.environ.get(API_KEY)
        async with AsyncClient(self._url, api_key=key, timeout=None) as client:
            await asyncio.gather(*(work() for _ in range(self._jobs)))

    async def _images(self, client: AsyncClient, run: SamplingParams) -> Result:
        """Draws the images of a run.

        A job that had already ended without images belongs to an earlier command, which has reported it. Then a new job
        is made, with another key.
        """
        tries = 0
        while True:
            job = await client.submit("generate", **self._options(run, tries))
            was_over = job.state in ENDED
            try:
                result = await job.images()
            except NotFound:  # Redis forgot it when it crashed: the same key makes it again
                continue
            except (JobFailed, JobCancelled, ResultExpired) as error:
                if not was_over:
                    raise UserError(f"{self._url}: the state of job {job.id} is {job.state}: {error}") from error
                tries += 1
                continue
            self._check(result)
            return result

    def _check(self, result: Result) -> None:
        """Raises UserError unless a result was drawn by the model as it was shown."""
        if result.manifest.get("version") != self._loaded.version:
            raise UserError(f"{self._url} has another version of {self.name} now: draw the images anew")
        if (now := result.manifest.get("precision", "float32")) != self._loaded.precision:
            raise UserError(f"{self._url} computes {self.name} in {now} now: draw the images anew")

    def _options(self, run: SamplingParams, tries: int) -> Any:
        """Returns the options of a job: all parameters are sent, so that no default of the server matters."""
        named = {"label": self._named(run.label), "model": self.name, "tag": self._tag, **self._named_version}
        options = {**run.model_dump(), **named}
        content = json.dumps([self._loaded.version, self._loaded.precision, options, tries], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()
        return {**options, "idempotency_key": key, "urgency": URGENCIES[-1]}

    def _named(self, label: int | tuple[int, ...] | None) -> Any:
        """Returns classes by their names, where they have names."""
        if label is None or self.class_names is None:
            return label
        return [self.class_names[each] for each in label] if isinstance(label, tuple) else self.class_names[label]


def served_model(name: str | None, url: str, *, tag: str | None = None) -> ServedModel:
    """Finds a model of a server by its name; None means the server's default.

    Raises UserError if there is no such model, or the server refuses to answer.
    """
    with connected(url) as client:
        found = client.models()
        models = {model["name"]: model for model in found["models"]}
        chosen = models.get(name or found.get("default") or "")
        if chosen is None:
            raise UserError(f"{url}: model: Input should be one of {', '.join(models)}")
        if chosen.get("state") == "refused":
            raise UserError(f"{url}: model: This model cannot be used: {chosen.get('reason')}")
        view = ServedView.model_validate(chosen)
    if view.shape.planes > 1:
        raise UserError(f"{url}: images of {view.shape.channels} channels are drawn without --server only")
    return ServedModel(url, view, tag=tag)
