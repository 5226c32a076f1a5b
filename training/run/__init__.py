"""A run: the trainer, its state, and its reports."""
