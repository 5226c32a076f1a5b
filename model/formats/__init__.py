"""Checkpoints of other projects: their configs and weights are translated to ours, and back where possible."""
