"""/usage: what each key has used on each day, and its price."""

import csv
import io
import re
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BeforeValidator, Field

from difuso.jobs.redis.usage import KEPT_DAYS, Used, today
from difuso.jobs.values import Frozen

from ..errors import InvalidRequest
from ..formats import BINARY
from ..http.api_keys import NAME, ApiKey
from ..http.headers import choose_format
from ..prices import Prices
from ..requests.deps import CallerDep, ProcessDep, single_parameters

router = APIRouter(tags=["jobs"])

DAYS = 31  # that are shown unless a request says otherwise
EVERYBODY = "*"  # stands for all keys; none has this name


class UsageFormat(StrEnum):
    """The formats of the answer; the last is the default."""

    CSV = "text/csv"
    JSON = "application/json"


def _as_written(text: str) -> str:
    """Refuses all that is no day as OpenAPI writes it: Pydantic takes numbers, too."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        raise ValueError("should be a day such as 2026-12-31")
    return text


Day = Annotated[date, BeforeValidator(_as_written)]


class UsageQuery(Frozen):
    """Query parameters of GET /usage."""

    since: Day | None = Field(default=None, alias="from", description="first day, in UTC")
    until: Day | None = Field(default=None, alias="to", description="last day")
    key: str | None = Field(default=None, pattern=NAME, description="only of this key, for operators")


class UsageRow(Frozen):
    """What a key has used on a day; without API keys there is no `key`."""

    day: date
    key: str | None = None
    jobs: int
    images: int
    image_steps: int
    device_seconds: float
    stored_bytes: int
    units: float | None = None

    @classmethod
    def of(cls, day: date, key: str | None, used: Used, prices: Prices | None) -> "UsageRow":
        return cls(
            day=day,
            key=key,
            jobs=used.jobs,
            images=used.images,
            image_steps=used.image_steps,
            device_seconds=used.device_us / 1e6,
            stored_bytes=used.stored_bytes,
            units=None if prices is None else round(prices.units(used), 6),
        )


class UsageView(Frozen):
    """What was used, and the operator's prices, if there are any."""

    since: date = Field(alias="from")
    until: date = Field(alias="to")
    prices: dict[str, float] | None = None
    days: list[UsageRow]


@router.get(
    "/usage",
    summary="Show what your key has used",
    response_model=UsageView,
    response_model_exclude_none=True,
    responses={200: {"content": {UsageFormat.CSV: {"schema": BINARY}}}},
    dependencies=[single_parameters(UsageQuery)],
)
def get_usage(query: Annotated[UsageQuery, Query()], request: Request, process: ProcessDep, key: CallerDep) -> Any:
    """Shows the days of the caller's key, or for an operator of all keys."""
    form = choose_format(", ".join(request.headers.getlist("accept")), [*UsageFormat])
    until = query.until or today()
    since = query.since or max(date.min + timedelta(DAYS), until) - timedelta(DAYS - 1)
    if not 0 <= (until - since).days < KEPT_DAYS:
        raise InvalidRequest("parameter", "from", f"Input should be a day up to {KEPT_DAYS - 1} days before `to`")
    wanted, prices = _wanted(key, query.key), process.settings.prices
    found = process.usage.days(since, until)
    rows = [UsageRow.of(day, name, used, prices) for day, name, used in found if wanted in (name, EVERYBODY)]
    if form is UsageFormat.CSV:
        return Response(_table(rows), media_type=form)
    return UsageView.model_validate(
        {"from": since, "to": until, "prices": prices and prices.model_dump(), "days": rows}
    )


def _wanted(key: ApiKey | None, asked: str | None) -> str | None:
    """Returns the name whose usage a caller sees that asks for one, if it does; None for requests without keys."""
    if key is not None and key.is_operator:
        return asked or EVERYBODY
    own = key.name if key else None
    if asked not in (None, own):
        raise InvalidRequest("parameter", "key", "Only the API key of an operator shows what other keys have used")
    return own


def _table(rows: list[UsageRow]) -> str:
    """Returns rows as CSV (RFC 4180), with their names above."""
    file = io.StringIO()
    table = csv.DictWriter(file, [*UsageRow.model_fields])
    table.writeheader()
    table.writerows(row.model_dump(mode="json") for row in rows)
    return file.getvalue()
