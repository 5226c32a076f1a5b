"""What the operator charges for what a key has used, in units of the operator's choice: `DIFUSO_PRICES`."""

from contextlib import suppress
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from difuso.jobs.redis.usage import Used
from difuso.jobs.values import Frozen

MOST = 1e12  # units, so that what keys use in years has a finite price
Price = Annotated[float, Field(ge=0, le=MOST)]


class Prices(Frozen):
    """The units for one of each; they change nothing that is counted, so a new price holds for earlier days too."""

    job: Price = 0.0  # that has ended, however
    image: Price = 0.0
    image_step: Price = 0.0
    device_second: Price = 0.0
    stored_gb: Price = 0.0  # 10^9 bytes of results, once for as long as they are kept

    @classmethod
    def read(cls, text: Any) -> Self | Any:
        """Reads words such as `image=2 device_second=0.1`; whatever is no text is left to Pydantic.

        Raises ValueError if a word is no price, or one is given twice.
        """
        if not isinstance(text, str):
            return text
        words = [word.partition("=")[::2] for word in text.replace(",", " ").split()]
        with suppress(ValidationError):
            if words and len(dict(words)) == len(words):
                return cls.model_validate(dict(words))
        raise ValueError(
            f"must be prices such as image=2, up to {MOST:g}, one each of {', '.join(cls.model_fields)}, not {text!r}"
        )

    def units(self, used: Used) -> float:
        """Returns the price of what was used."""
        return (
            self.job * used.jobs
            + self.image * used.images
            + self.image_step * used.image_steps
            + self.device_second * used.device_us / 1e6
            + self.stored_gb * used.stored_bytes / 1e9
        )
