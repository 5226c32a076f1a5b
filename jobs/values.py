"""The bases of all values that cross the queue."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, nothing unknown, NaN and infinity refused; written by the names that it is read by."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


class Reported(Frozen):
    """Base of what workers write and front ends read: fields that a newer version added are overlooked."""

    model_config = ConfigDict(extra="ignore")
