"""The figures of docs/paper.md, each of which sets a part of the paper beside what difuso makes of it."""
