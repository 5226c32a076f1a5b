"""The methods of a job that both clients share. They return a result, or a coroutine of it."""

from typing import Any, Generic, TypeVar

from . import flows
from .flows import Flow, Patience
from .requests import Requests
from .results import Facts, Result, State

Same = TypeVar("Same")
Images = TypeVar("Images")


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
        return self._client._run(self._update(flows.get(f"/jobs/{self.id}", self._client._patience())))

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
