"""Trainings: what was ordered, how far each is, and which trainer runs it; see `scripts`."""

import json
import logging
import sys
from collections import Counter
from typing import Any, Literal, NamedTuple

import redis

from ..errors import JobsError
from ..values import Reported
from .scripts import ALL, ASK, CLAIM, CREATE, EXPIRE, FORGET, RECORD, REPORT, SHARED

LEASE_SECONDS = 10.0  # of silence, after which another trainer takes a training

log = logging.getLogger(__name__)

Request = Literal["pause", "resume", "stop", "delete"]
State = Literal["queued", "running", "pausing", "paused", "stopping", "stopped", "succeeded", "failed"]
OVER: tuple[State, ...] = ("succeeded", "stopped", "failed")
KEPT: tuple[State, ...] = ("queued", "running", "paused", *OVER)  # as a record has them


class TrainingNotFound(JobsError):
    """There is no training of this id: it never existed, or was deleted."""


class TooManyTrainings(Exception):
    """Of the trainings of the owner, `most` have not ended."""


class LeaseLost(Exception):
    """Another trainer runs the training, or it was deleted."""


class Order(Reported):
    """What was ordered; `changes` are those of a recipe as the command line has them.

    A dry run measures some steps, says in its log what the whole would need, and makes no model.
    """

    id: str
    owner: str | None = None
    dataset: str
    name: str  # of the model
    preset: str
    minutes: float | None = None
    changes: tuple[str, ...] = ()
    dry_run: bool = False
    advice: str | None = None  # what to expect of so few pictures
    created_at: float


class Progress(Reported):
    """How far a training is; `steps` is 0 until its recipe is made.

    `loss` is smoothed, `losses` are up to a hundred such points (step, loss), and `held_out` the same of pictures not
    trained on. `seconds_left` is a range. `sheets` are the steps with samples, `nearest` those with the pictures
    nearest to them, and `copies` the share nearer than by chance. `served` is the step of the model that is served.
    """

    step: int = 0
    steps: int = 0
    images: int = 0
    loss: float | None = None
    losses: tuple[tuple[int, float], ...] = ()
    held_out: tuple[tuple[int, float], ...] | None = None
    seconds_left: tuple[float, float] | None = None
    sheets: tuple[int, ...] = ()
    nearest: tuple[int, ...] = ()
    copies: float | None = None
    served: int | None = None


class Training(Order):
    """A training as its record has it. Times are in seconds since the epoch."""

    state: State
    reason: str | None = None  # why it failed
    started_at: float | None = None
    ended_at: float | None = None  # or when it was paused
    progress: Progress = Progress()
    learning_rate: float | None = None  # the lower rate with which it goes on after its loss became NaN
    recipe: str = ""  # as TOML
    log: str = ""  # its last lines
    expired: bool = False  # whether its files are gone, and only its model is left

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @classmethod
    def read(cls, record: dict[bytes, bytes]) -> "Training":
        """Reads a record."""
        fields: dict[str, Any] = {key.decode(): value.decode() for key, value in record.items() if value}
        order, progress = json.loads(fields.pop("order")), fields.pop("progress", "{}")
        if fields["state"] == "running":
            fields["state"] = {"pause": "pausing", "stop": "stopping"}.get(fields.get("asked", ""), "running")
        return cls.model_validate({**order, **fields, "progress": json.loads(progress)})


class Claim(NamedTuple):
    """A training that a trainer has taken."""

    training: Training
    fence: int
    saved: str  # the name of its last state in the store; empty if there is none
    lost: int  # the trainers that died with it since something was saved


class Trainings:
    """The records of all trainings. Every change is one script, so whoever dies leaves nothing half done."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._unread = set[str]()  # the ids of records that were complained of

    def create(self, order: Order, most: int = sys.maxsize) -> bool:
        """Accepts a training, or raises TooManyTrainings; returns False if another has the name of its model."""
        return bool(self._run(CREATE, order.id, _reserved(order), order.created_at, order.model_dump_json(), most))

    def get(self, training_id: str) -> Training:
        """Returns a training; raises TrainingNotFound, also if it is being deleted."""
        if (found := self._read(training_id, self._client.hgetall(RECORD + training_id))) is None:
            raise TrainingNotFound
        return found

    def all(self) -> list[Training]:
        """Returns all trainings that are not being deleted, the newest first."""
        ids: Any = self._client.zrevrange(ALL, 0, -1)
        with self._client.pipeline(transaction=False) as pipe:
            for each in ids:
                pipe.hgetall(RECORD + each.decode())
            found = pipe.execute()
        read = (self._read(each.decode(), record) for each, record in zip(ids, found, strict=True))
        return [each for each in read if each is not None]

    def _read(self, training_id: str, record: Any) -> Training | None:
        """Reads a record; None if there is none, if it is being deleted, or if a newer difuso has written it."""
        if not record or record.get(b"asked") == b"delete":
            return None
        try:
            return Training.read(record)
        except (ValueError, KeyError):
            if training_id not in self._unread:
                self._unread.add(training_id)
                log.warning("training %s is left out: this version of difuso cannot read its record", training_id)
            return None

    def ask(self, training_id: str, wanted: Request, most: int = sys.maxsize) -> bool:
        """Asks for something; returns False if the state of the training does not allow it. See `get` and `create`."""
        return bool(self._run(ASK, training_id, wanted, most))

    def claim(self, asked: Literal["", "delete"] = "") -> Claim | None:
        """Takes the training that has been due for longest, for a trainer that runs or deletes it; None without one."""
        found = self._run(CLAIM, "", asked, LEASE_SECONDS)
        if found is None:
            return None
        record: Any = self._client.hgetall(RECORD + found[0].decode())
        saved, lost = (record.get(name, b"").decode() for name in (b"saved", b"lost"))
        return Claim(Training.read(record), int(found[1]), saved, int(lost or 0))

    def report(self, claim: Claim, state: State = "running", **fields: object) -> str:
        """Writes how far a claimed training is, and keeps it; returns what is asked, which is empty mostly.

        Another `state` gives it back: `queued` for another trainer, unless a pause or stop is asked, or for good.
        Raises LeaseLost.
        """
        told = [part for name, value in fields.items() for part in (name, "" if value is None else str(value))]
        answer = self._run(REPORT, claim.training.id, claim.fence, LEASE_SECONDS, state, *told)
        if answer is None:
            raise LeaseLost
        return str(answer.decode())

    def forget(self, claim: Claim) -> None:
        """Deletes the record of a claimed training, whose files are gone."""
        self._run(FORGET, claim.training.id, claim.fence, _reserved(claim.training))

    def expire(self, seconds: float) -> None:
        """Deletes the records of the trainings that ended or were paused so long ago.

        One whose model is served stays as `expired`, so that its owner can delete the model.
        """
        self._run(EXPIRE, "", seconds)

    def counts(self) -> dict[str, int]:
        """Returns the number of trainings in each state, of which one that is being deleted is `deleting`."""
        ids: Any = self._client.zrange(ALL, 0, -1)
        with self._client.pipeline(transaction=False) as pipe:
            for each in ids:
                pipe.hmget(RECORD + each.decode(), "state", "asked")
            found = pipe.execute()
        states = Counter("deleting" if asked == b"delete" else state.decode() for state, asked in found if state)
        return {state: states[state] for state in (*KEPT, "deleting")}

    def _run(self, script: str, *arguments: object) -> Any:
        answer: Any = self._client.eval(SHARED + script, 0, *map(str, arguments))
        if answer in (-1, -2):
            raise TrainingNotFound if answer == -1 else TooManyTrainings
        return answer


def _reserved(order: Order) -> str:
    """Returns the name that an order keeps others from using: that of its model, if it makes one."""
    return order.id if order.dry_run else order.name
