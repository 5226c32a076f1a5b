"""The figures of docs/paper.md. Each compares a part of the paper with what difuso makes of it."""
