"""The bases of all values that cross the queue."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from difuso.model.shape import MAX_CHANNELS

Bits = Literal[8, 16]  # of each pixel of an image
Planes = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]  # see `Shape.planes`


def require_written(schema: dict[str, Any], kind: type[BaseModel]) -> None:
    """Marks in a JSON schema as required the fields that are always written, even those with a default."""
    fields = kind.model_fields.items()
    schema["required"] = [name for name, field in fields if field.default is not None and field.exclude_if is None]


class Frozen(BaseModel):
    """An immutable value without unknown fields, NaN or infinity; it is written under the aliases of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


class Reported(Frozen):
    """A value that workers write and front ends read; unknown fields, from a newer version, are ignored."""

    model_config = ConfigDict(extra="ignore")
