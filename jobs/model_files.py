"""The files in a model's folder that describe it: the card, the sheet of samples and the curve of losses."""

import re
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from difuso.model.errors import unreadable
from difuso.model.folders.files import CARD, LOSSES, SHEET, is_file

CARD_BYTES, FIGURE_BYTES = 1 << 20, 1 << 24  # at most
FILES = {
    "card": (CARD, CARD_BYTES),
    "sheet": (SHEET, FIGURE_BYTES),
    "losses": (LOSSES, FIGURE_BYTES),
}
ABOUT_LENGTH = 160  # characters
HEAD_BYTES = 4096  # of a card, in which its first sentence is looked for
FRONT_MATTER = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)
NO_PARAGRAPH = re.compile(r"[#|<>\s-]|!\[|```")  # a heading, a table, a tag, a list, code, or a picture
MARKUP = re.compile(r"[`*]|!?\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class ModelFiles:
    """The files of the model `name` in a folder of models."""

    models_dir: Path
    name: str

    def find(self, document: str) -> Path | None:
        """Returns the path of `card`, `sheet` or `losses`; None if there is no such file, or if it is too large.

        A link in the folder of a stranger may lead anywhere else; a file outside the folder counts as missing.

        Raises CheckpointUnreadable if the disk does not say.
        """
        file, most = FILES[document]
        folder = Path(realpath(self.models_dir / self.name))  # `Path.resolve` fails at a link to itself
        path = Path(realpath(folder / file))
        try:
            is_usable = path.is_relative_to(folder) and is_file(path) and path.stat().st_size <= most
        except OSError as error:
            raise unreadable(path.name, error) from error
        return path if is_usable else None

    @property
    def documents(self) -> tuple[str, ...]:
        """The names of the files that there are."""
        return tuple(document for document in FILES if self.find(document))

    @property
    def about(self) -> str | None:
        """The first sentence of the card; None without one, or where it may not be read; raises like `find`."""
        path = self.find("card")
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                text = file.read(HEAD_BYTES).decode("utf-8", "replace").replace("\r", "")
        except PermissionError:
            return None
        except OSError as error:
            raise unreadable(path.name, error) from error
        blocks = (block.strip("\n") for block in FRONT_MATTER.sub("", text).split("\n\n"))
        first = next((block for block in blocks if block and not NO_PARAGRAPH.match(block)), "")
        sentence = re.split(r"(?<=[.!?])\s", " ".join(MARKUP.sub(r"\1", first).split()))[0]
        return sentence[:ABOUT_LENGTH] or None
