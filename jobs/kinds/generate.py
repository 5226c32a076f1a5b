"""Generating images from noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..catalog import ModelInfo
from ..filling_in import fill_in
from ..images.fitting import FittedImage
from ..params import SamplingParams
from .base import Kind, Prepared, SamplingQuery, Task


class Generation(Task):
    """Generating images from noise; it has no parameters of its own."""

    kind: Literal["generate"] = "generate"

    def facts(self, params: SamplingParams, index: int, images: Sequence[str]) -> dict[str, Any]:
        return {}

    def file_stem(self, params: SamplingParams, index: int) -> str:
        return self.seed_and_class(params, index)


def complete(query: SamplingQuery, model: ModelInfo, images: Mapping[str, FittedImage]) -> Prepared:
    return Prepared(fill_in(query, model), Generation())


KIND = Kind("generate", "Generate images", SamplingQuery, Generation, complete, command="sample")
