"""Other projects' checkpoints: their configs and weights in terms of ours, and back where that is possible."""
