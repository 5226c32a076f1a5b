"""What a worker understands of jobs, so that front ends and workers of different versions work together.

The contract has a number, which is raised when it grows. A job says which number it needs, and lies in a queue of this
number, so that an older worker never sees it. Workers report their number, and the names that they know. A front end
accepts what a live worker understands.

Whoever adds a kind, a sampler, a setting or another field of a job raises CONTRACT by one and enters it in SINCE. A new
field has to be left out where it has its default (`exclude_if`): jobs without it need no newer worker.
"""

from collections.abc import Collection, Iterable, Mapping

from difuso.model.plans.samplers import SAMPLERS
from difuso.model.plans.settings import SETTINGS

from .values import Reported

CONTRACT = 5
# What came after contract 1, as `Job.needs` writes it, with its number.
SINCE: Mapping[str, int] = {
    **{f"sampler {name}": 2 for name in ("lms", "plms", "deis", "deis_3", "dpm2", "dpm2_ancestral", "dpmpp_2s")},
    "list of sigmas": 2,
    "pictures of generate": 3,  # its noise
    "field shown": 3,
    "noise between seeds": 4,
    "field warnings": 4,
    **{f"sampler {name}": 4 for name in ("dpmpp_sde", "dpmpp_3m_full", "heun_flow", "lcm", "ipndm")},
    **{f"field {kind}.probes": 5 for kind in ("denoise", "restore")},
}

_NAMED = ("kind", "sampler", "setting")  # what workers report by names


def number_of(needs: Collection[str]) -> int:
    """Returns the number of the first contract that has all that a job needs (`Job.needs`)."""
    return max((number for each, number in SINCE.items() if each in needs), default=1)


class Understanding(Reported):
    """What a worker understands: the number of its contract, and names."""

    contract: int = 0
    kinds: frozenset[str] = frozenset()
    samplers: frozenset[str] = frozenset()
    settings: frozenset[str] = frozenset()

    def lacks(self, needs: Iterable[str], contract: int) -> str | None:
        """Returns what is missing for a job with these `needs` and of this contract, for people; None if nothing."""
        for each in sorted(needs):
            what, _, name = each.partition(" ")
            if what in _NAMED and name not in getattr(self, f"{what}s"):
                return each
        return None if contract <= self.contract else f"contract {contract}"


def understood_here(kinds: Iterable[str]) -> Understanding:
    """Returns what this version of difuso understands."""
    return Understanding(
        contract=CONTRACT, kinds=frozenset(kinds), samplers=frozenset(SAMPLERS), settings=frozenset(SETTINGS)
    )
