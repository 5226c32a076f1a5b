"""Measurements of difuso compared with other servers and with its own network; docs/benchmarks.md explains them."""
