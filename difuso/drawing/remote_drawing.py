"""A model of a server that draws many images, in many jobs of the lowest urgency.

Each job has an Idempotency-Key made from its parameters. So a repeated request for the same images, even after a
crash of this program, finds the jobs that are running or have ended.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jobs.contract import URGENCIES
from jobs.kinds import KINDS
from jobs.params import SamplingParams
from jobs.queries import SamplingQuery
from model.folders.config import Precision
from model.plans.settings import SamplerDefaults
from model.shape import Shape

from ..errors import UserError
from .remote_sampling import arguments, conditions_of, connected

try:
    from ..client import AsyncClient, DifusoError, JobCancelled, JobFailed, NotFound, Result, ResultExpired
    from ..client.results import ENDED
except ImportError as error:
    raise UserError(str(error)) from error

TOGETHER = 32  # images of a job
IN_FLIGHT = 2  # jobs for each worker: one that it draws, and one that waits
AHEAD = 16 * TOGETHER

Facts = dict[str, Any]  # a model as GET /models shows it


class ServedModel:
    """A model of a server; `facts` are the model as GET /models shows it, and all its jobs get the tag."""

    is_here = False
    together, ahead = TOGETHER, AHEAD
    trained_images = None  # a server does not tell

    def __init__(self, url: str, api_key: str | None, facts: Facts, *, tag: str | None = None) -> None:
        self._url = url
        self._api_key = api_key
        self._facts = facts
        self._tag = tag
        self.name: str = facts["name"]
        self.sha256: str = facts["sha256"]
        self.version = self.sha256  # a server does not tell of more
        self.precision: Precision = facts.get("precision", "float32")
        self.shape = Shape.of(facts["image_size"], facts["channels"])
        self.class_names: list[str] | None = facts.get("classes")
        self.labels: int = facts.get("classifier_classes", 0) if self.class_names is None else len(self.class_names)
        self.conditions = conditions_of(facts)
        self.defaults = SamplerDefaults(**facts["defaults"])

    def settle(self, query: SamplingQuery) -> SamplingParams:
        """Lets the server fill in what a query leaves open, and check whether the run is possible."""
        with connected(self._url, self._api_key, timeout=None) as client:
            asked: Any = arguments(client, KINDS["generate"], query.model_copy(update={"model": self.name}), {})
            return SamplingParams.model_validate(client.price("generate", **asked).params)

    def draw(self, runs: Iterable[SamplingParams], keep: Callable[[int, list[bytes]], None]) -> None:
        try:
            asyncio.run(self._draw(enumerate(runs), keep))
        except ExceptionGroup as group:
            first: Exception = group
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            if isinstance(first, DifusoError):
                raise UserError(f"{self._url}: {first}") from first
            raise first from None

    async def _draw(self, runs: Iterator[tuple[int, SamplingParams]], keep: Callable[[int, list[bytes]], None]) -> None:
        async def work() -> None:
            for number, run in runs:
                result = await self._images(client, run)
                keep(number, list(result.pngs))

        workers: int = max(1, self._facts["workers"])
        async with AsyncClient(self._url, api_key=self._api_key, timeout=None) as client, asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT * workers):
                group.create_task(work())

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
            if result.manifest["model_sha256"] != self.sha256:
                raise UserError(f"{self._url} has other weights of {self.name} now: draw the images anew")
            return result

    def _options(self, run: SamplingParams, tries: int) -> Any:
        """Returns the options of a job: all parameters are sent, so that no default of the server matters."""
        options = {
            **run.model_dump(),
            "label": self._named(run.label),
            "model": self.name,
            "tag": self._tag,
        }
        content = json.dumps([self.sha256, options, tries], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()
        return {**options, "idempotency_key": key, "urgency": URGENCIES[-1]}

    def _named(self, label: int | tuple[int, ...] | None) -> Any:
        """Returns classes by their names, where they have names."""
        if label is None or self.class_names is None:
            return label
        return [self.class_names[each] for each in label] if isinstance(label, tuple) else self.class_names[label]


def served_model(name: str | None, url: str, api_key: str | None, *, tag: str | None = None) -> ServedModel:
    """Finds a model of a server by its name; None means the server's default.

    Raises UserError if there is no such model, or the server refuses to answer.
    """
    with connected(url, api_key, timeout=None) as client:
        found = client.models()
    models = {model["name"]: model for model in found["models"]}
    chosen = models.get(name or found.get("default") or "")
    if chosen is None:
        raise UserError(f"{url}: model: Input should be one of {', '.join(models)}")
    if chosen["state"] == "refused":
        raise UserError(f"{url}: model: This model cannot be used: {chosen['reason']}")
    if "sha256" not in chosen:
        raise UserError(f"{url}: no worker has loaded {chosen['name']} yet: try again in a minute")
    model = ServedModel(url, api_key, chosen, tag=tag)
    if model.shape.planes > 1:
        raise UserError(f"{url}: images of {model.shape.channels} channels are drawn without --server only")
    return model
