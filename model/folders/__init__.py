"""The folder of a model: its config and its files."""
