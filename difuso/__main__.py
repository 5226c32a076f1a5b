"""`python -m difuso`: how the supervisor starts the other processes, whatever is on PATH."""

from __future__ import annotations

from .cli import main

main()
