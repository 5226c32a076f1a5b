"""A run: the trainer, its state, and what it tells."""
