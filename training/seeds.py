"""The seeds of a run's random numbers.

A run that continues from a checkpoint must not repeat the checkpoint's training: the same images in the same order,
with the same timesteps and noise, teach less than new ones. So all seeds follow from the recipe's seed and from the
initial weights of the run.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Seeds:
    """The seeds of a run."""

    recipe: int  # the seed of the recipe
    origin: str = ""  # hexadecimal SHA-256 of the weights that the run begins from; empty for random weights
    earlier: tuple[str, ...] = ()  # the names of the draws that those weights were trained with, the oldest first

    def of(self, role: str) -> int:
        """Returns the seed of the generator with this role, such as drawing noise; 0 to 2^63 - 1."""
        return int.from_bytes(self._digest(role)[:8], "big") >> 1

    @property
    def draws(self) -> tuple[str, ...]:
        """The names of all draws that a model of this run was trained with, the oldest first."""
        return (*self.earlier, self._name)

    @property
    def repeats(self) -> bool:
        """Whether the run would repeat draws with which its initial weights were trained."""
        return self._name in self.earlier

    @property
    def _name(self) -> str:
        return self._digest("name").hex()[:16]

    def _digest(self, role: str) -> bytes:
        return hashlib.sha256(f"{self.recipe}/{self.origin}/{role}".encode()).digest()
