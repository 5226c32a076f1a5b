"""The sources of images, by their names in recipes."""

from __future__ import annotations

from model.shape import Shape

from ..recipe import Data, SourceName
from .array_files import open_idx, open_npz
from .faces import draw_faces
from .image_files import open_folder, open_zip
from .published_sets import open_huggingface, open_webdataset
from .source import OpenSource, Source, SourceImage


def _open_faces(data: Data, shape: Shape) -> Source:
    faces = enumerate(draw_faces("train", data.count, shape.height))
    return Source((SourceImage(f"train-{i}", face) for i, face in faces), data.count)


SOURCES: dict[SourceName, OpenSource] = {
    "faces": _open_faces,
    "folder": open_folder,
    "zip": open_zip,
    "npz": open_npz,
    "idx": open_idx,
    "huggingface": open_huggingface,
    "webdataset": open_webdataset,
}
