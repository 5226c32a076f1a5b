"""The shape of a model's images, from which everything else reads height, width and channels."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

MAX_CHANNELS = 64
Channel = Annotated[int, Field(ge=0, le=MAX_CHANNELS - 1)]  # its index
Shown = tuple[Channel, Channel, Channel]  # the channels that a picture of an image shows as red, green and blue
Side = Annotated[int, Field(ge=1, le=1024)]  # in pixels
ImageSize = Side | Annotated[tuple[Side, Side], Field(max_length=2)]  # of a square, or (height, width)


class Shape(NamedTuple):
    """The shape (C, H, W) of an image; height and width are in pixels."""

    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, image_size: ImageSize, channels: int) -> Shape:
        """Returns the shape of images of a size as configs state it."""
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        return cls(channels, height, width)

    @property
    def image_size(self) -> ImageSize:
        """Height and width as configs state them: one number for a square."""
        return self.height if self.is_square else (self.height, self.width)

    @property
    def is_square(self) -> bool:
        return self.height == self.width

    @property
    def planes(self) -> int:
        """Number of grey planes that stand for an image in a PNG, one below the other; 1 for grey and RGB."""
        return 1 if self.channels in (1, 3) else self.channels

    @property
    def hwc(self) -> tuple[int, int, int]:
        """The shape (H, W, C), as arrays of pixels have it."""
        return (self.height, self.width, self.channels)

    @property
    def in_pixels(self) -> str:
        """Height and width for people: 64x96."""
        return f"{self.height}x{self.width}"
