"""Measurements of difuso beside other servers and beside its own network; docs/benchmarks.md explains them."""
