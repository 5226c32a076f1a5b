"""The words for a model's conditions and their values in other languages: the file `labels.json` of its folder.

    {"es": {"skin": {"name": "piel", "values": {"light": "clara", "dark": "oscura"}}}}

Classes are the values of `label`. The file decides nothing that is drawn, so a model's version does not depend on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from ..conditions import Condition, Text, listed

LABELS = "labels.json"
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]


@dataclass(frozen=True)
class Words:
    """The words for one condition in one language."""

    name: Text | None = None  # for the condition itself; None where the plain name serves
    values: Mapping[Text, Text] = field(default_factory=dict)  # for its values, by their plain names


Labels: TypeAlias = Mapping[Language, Mapping[Text, Words]]
"""The words for each condition, by language (a tag of BCP 47) and by its plain name."""

_ADAPTER: TypeAdapter[Labels] = TypeAdapter(Labels)


def read_labels(content: Any) -> Labels:
    """Reads a table of this form; raises ValueError, which names the place, if it is of another form."""
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"labels.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def labels_to_text(labels: Labels) -> str:
    """Returns the content of the file."""
    return _ADAPTER.dump_json(labels, indent=1).decode()


def check_labels(labels: Labels, declared: Mapping[str, Condition]) -> None:
    """Raises ValueError, which names the place, if labels name a condition or value that a model does not declare."""
    for language, words in labels.items():
        for name, each in words.items():
            place = f"labels.{language}.{name[:32]}"
            if name not in declared:
                raise ValueError(f"{place} is not a condition: known are {listed([*declared]) or 'none'}")
            known = getattr(declared[name], "values", ())
            unknown = [value for value in each.values if value not in known]
            if unknown:
                raise ValueError(
                    f"{place}.values.{unknown[0][:32]} is not a value: known are {listed(known) or 'none'}"
                )
