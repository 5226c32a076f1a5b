"""The data of front ends and workers in Redis."""
