"""Gives memory that is no longer used back to the operating system.

Tensors, PNGs and snapshots of many sizes leave free gaps in the heap, and glibc keeps them. A busy worker grew by 16 MB
in an hour although it used no more memory at the end than at the beginning.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Returns free pages to the system if the C library can do that (glibc). It takes about 1 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
