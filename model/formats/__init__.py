"""Checkpoints of other projects: their configs and weights are translated to ours, and back where possible.

Each `read_unet` raises CheckpointError if the facts contradict the weights, or if the network is of a kind that cannot
be served.
"""
