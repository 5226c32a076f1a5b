"""The events of a job, read over as many connections as it takes."""

import base64
import io
import json
from dataclasses import dataclass

import httpx
from httpx_sse import ServerSentEvent, SSEError
from PIL import Image

from .flows import REST_SECONDS, TRANSIENT, Call, Flow, Patience, Pause, exchange
from .results import ENDED, Facts, State, understood

SILENCE_SECONDS = 45.0  # the server sends a comment every 15 s

# Errors of a connection after which another one may succeed; a proxy may have answered in place of the server.
BROKEN = (*TRANSIENT, SSEError)


@dataclass(frozen=True)
class Progress:
    """The progress of a job.

    Attributes:
        done, total: network calls of all images.
        position: the number of jobs ahead; None unless it is queued.
        eta_seconds: the time until it is done; None if unknown.
    """

    state: State
    done: int
    total: int
    position: int | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True)
class Preview:
    """An unfinished image.

    Attributes:
        index: the image's place among those of the job.
        done: the network calls of all images of the job so far.
        png: the image as a PNG file.
    """

    index: int
    done: int
    png: bytes

    @property
    def image(self) -> Image.Image:
        """The image, which is decoded when its pixels are first asked for."""
        return Image.open(io.BytesIO(self.png))


@dataclass(frozen=True)
class Ended:
    """The job has ended, with its facts as GET /jobs/{id} shows them; no event follows."""

    state: State
    facts: Facts


Event = Progress | Preview | Ended


class EventReader:
    """Reads the events of one job, over as many connections as it takes.

    The server begins each connection with the job's progress, so a broken one loses at most previews. It has ended once
    the last event has come.
    """

    def __init__(self, job_id: str) -> None:
        self.ended = False
        self._call = Call(
            "GET",
            f"/jobs/{job_id}/events",
            headers={"Accept": "text/event-stream"},
            seconds=SILENCE_SECONDS,
            stream=True,
        )
        self._connected = False
        self._shown: Progress | None = None

    def connect(self, patience: Patience) -> Flow[httpx.Response]:
        """Returns an answer whose server-sent events are for `read`."""
        if self._connected:
            yield Pause(min(REST_SECONDS, patience.left))
        self._connected = True
        return (yield from exchange(self._call, patience))

    def read(self, sent: ServerSentEvent) -> Event | None:
        """Returns the event in a server-sent event; None if it says nothing new.

        Raises DifusoError if it is not of difuso.
        """
        with understood(f"The stream of {self._call.path}"):
            data = json.loads(sent.data) if sent.event in ENDED | {"preview", "progress"} else None
            if data is None:
                return None  # a comment, or an event of a newer server
            if sent.event in ENDED:
                self.ended = True
                return Ended(data["state"], data)
            if sent.event == "preview":
                return Preview(data["index"], data["image_steps"], base64.b64decode(data["png"]))
            steps = data["steps"]
            progress = Progress(
                data["state"], steps["done"], steps["total"], data.get("position"), data.get("eta_seconds")
            )
        if progress == self._shown:
            return None
        self._shown = progress
        return progress
