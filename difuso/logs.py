"""The log of every process: one line for each event, as text for people or as JSON for programs.

All modules log through the standard library. The job or request of an event stands in its `extra` (`job_id`,
`request_id`, …), not in its text: so one search finds all lines about a job or a request, in all processes.
"""

import logging
import time
from typing import Literal

from structlog.contextvars import merge_contextvars
from structlog.processors import JSONRenderer, TimeStamper, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level
from structlog.typing import EventDict, Processor, WrappedLogger

from .terminal import printable

Form = Literal["text", "json"]


def log_lines(process: str, *, form: Form = "text", level: str = "info") -> None:
    """Makes this process log to standard error, from a level on, with its name on each of its lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(process, form))
    logging.basicConfig(handlers=[handler], level=level.upper())


def formatter(process: str, form: Form) -> logging.Formatter:
    """Returns a formatter that turns log records into lines."""

    def begin(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.pop("color_message", None)  # uvicorn's message again, with colours
        return {"timestamp": None, "level": None, "process": process, **event}

    as_json: list[Processor] = [add_log_level, TimeStamper(fmt="iso", utc=True), JSONRenderer(default=str)]
    render: list[Processor] = as_json if form == "json" else [_as_text]
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars, ExtraAdder()],
        processors=[ProcessorFormatter.remove_processors_meta, format_exc_info, begin, *render],
    )


def _as_text(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Formats an event as time, process, message and extras; a traceback follows on lines of its own."""
    clock, process, said = time.strftime("%H:%M:%S"), event.pop("process"), event.pop("event")
    trace = event.pop("exception", None)
    about = "".join(f" {name}={_word(value)}" for name, value in event.items() if value is not None)
    line = printable(f"{clock} {process:>6}  {said}{' ' if about else ''}{about}").replace("\n", "\\n")
    return line if trace is None else f"{line}\n{printable(trace)}"  # both may quote a server, or the name of a file


def _word(value: object) -> str:
    """Formats a value as one word; one with spaces or control characters is quoted."""
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)
